//! Is a presented token good? Tells what is known, and asks what is not known: once, however many want to
//! know.

use std::{pin::Pin, sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    introspect::{Presented, Remote},
    observe::{LogLimit, counters},
    precheck::Precheck,
    rejection::{Reason, Refuser, Rejection},
    resilience::{BreakerState, Deadline},
    store::{AtLeast, CacheHit, Key, Lease, PendingCheck, TokenStore},
    token::TokenInfo,
    verdict::{self, Verdict},
};

mod fetch;
#[cfg(feature = "dpop")]
mod proof;
mod shared;

pub(crate) use self::fetch::revalidate;
use self::fetch::{Fetch, fetch};

/// So often Authlete is asked for a verdict that is invalidated before it is used.
const ATTEMPTS: usize = 4;

/// What is known of a token, and by what.
pub(crate) struct Resolved {
    pub(crate) verdict: Verdict,
    /// The call that told it; `None` if it was known.
    pub(crate) check: Option<Arc<PendingCheck>>,
    /// Whether Authlete is to be asked again soon.
    pub(crate) needs_refresh: bool,
}

impl Resolved {
    /// What is known without a call of this request's.
    pub(crate) fn known(verdict: Verdict) -> Self {
        Self { verdict, check: None, needs_refresh: false }
    }
}

impl From<CacheHit> for Resolved {
    fn from(CacheHit { verdict, needs_refresh }: CacheHit) -> Self {
        Self { verdict, check: None, needs_refresh }
    }
}

/// A verdict to wait for. A hit needs none, and so no box.
pub(crate) type Resolving = Pin<Box<dyn Future<Output = Resolved> + Send>>;

/// How new what is known of a token has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freshness {
    /// Neither what is cached nor what others ask will do.
    pub(crate) fresh: bool,
    /// For how long after its age an entry may be used while Authlete cannot be asked.
    pub(crate) stale: Duration,
}

impl Freshness {
    fn at_least(self) -> AtLeast {
        if self.fresh { AtLeast::New } else { AtLeast::Cached }
    }
}

pub(crate) struct Verifier {
    pub(crate) store: Arc<TokenStore>,
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) clock: Clock,
    pub(crate) log: LogLimit,
    pub(crate) refuser: Arc<Refuser>,
    /// For a check.
    pub(crate) deadline: Duration,
    /// What a token has to be like, if that takes more than a look at its characters.
    pub(crate) precheck: Option<Precheck>,
    /// Whether tokens are extended.
    pub(crate) extends: bool,
}

impl Verifier {
    /// An extension that a check waits for is to be over before the check is, so that there is time for what
    /// comes after it.
    pub(crate) fn extension_deadline(&self) -> Deadline {
        Deadline::after(self.deadline / 4 * 3)
    }

    /// Asks Authlete, or waits for the verdict of a check that is under way.
    #[expect(clippy::manual_async_fn, reason = "the arguments of an `async fn` are kept twice")]
    pub(crate) fn resolve(
        self: Arc<Self>,
        presented: Arc<Presented>,
        freshness: Freshness,
    ) -> impl Future<Output = Resolved> + Send {
        async move {
            if let Err(rejection) = self.check_form(&presented) {
                return Resolved::known(Err(rejection));
            }
            if let Some(stale) = self.stale_at_once(&presented, freshness) {
                return Resolved::known(Ok(stale));
            }
            let resolved = self.ask(&presented, freshness.at_least()).await;
            let Err(rejection) = &resolved.verdict else { return resolved };
            // An overload here does not tell that Authlete cannot be asked.
            let overload = || rejection.is_overload() && self.remote.availability().answers();
            if rejection.reason() != Reason::Unavailable || overload() {
                return resolved;
            }
            let stale = self.stale(&presented, freshness);
            stale.map_or(resolved, |stale| Resolved::known(Ok(stale)))
        }
    }

    /// Refuses what cannot be one of the service's tokens.
    fn check_form(&self, presented: &Presented) -> Result<(), Rejection> {
        // A token that is extended lives longer than it tells.
        let now = (!self.extends).then(|| self.clock.now());
        let fits = |precheck: &Precheck| precheck.fits_closely(presented.token().expose(), now);
        if self.precheck.as_ref().is_none_or(fits) {
            return Ok(());
        }
        counters::prechecked("jwt");
        Err(Rejection::foreign_token())
    }

    /// In an outage nobody waits who can do without.
    fn stale_at_once(&self, presented: &Arc<Presented>, freshness: Freshness) -> Option<TokenInfo> {
        let availability = self.remote.availability();
        // Credentials of ours that are refused are no outage.
        let outage = availability.is_down && !availability.credentials_refused;
        let stale = outage.then(|| self.stale(presented, freshness))??;
        if availability.breaker != BreakerState::Open {
            self.revalidate(presented);
        }
        Some(stale)
    }

    /// What may be used though Authlete should have been asked again.
    fn stale(&self, presented: &Presented, freshness: Freshness) -> Option<TokenInfo> {
        let Presented { key, binding, .. } = presented;
        let stale = (!freshness.fresh).then(|| self.store.stale(key, *binding, freshness.stale))?;
        let stale = stale.filter(TokenInfo::is_complete)?;
        counters::stale();
        Some(stale)
    }

    async fn ask(&self, presented: &Arc<Presented>, mut at_least: AtLeast) -> Resolved {
        let deadline = Deadline::after(self.deadline);
        for attempt in 0..ATTEMPTS {
            let presented = self.by_current_value(presented);
            let (check, joined) = match fetch(&self.store, &self.remote, &presented, at_least) {
                Fetch::Known(verdict) => return Resolved::known(verdict),
                Fetch::Joined(check) => (check, true),
                Fetch::Started(check) => (check, false),
                Fetch::Full => return Resolved::known(Err(verdict::overloaded(&self.log))),
            };
            // A check ends in time by itself, but one that starts later does not. That is seldom: in a box, it
            // takes no room of those who wait.
            let told = match attempt {
                0 => check.verdict().await,
                _ => {
                    let late = || Some(Err(verdict::unknown()));
                    Box::pin(deadline.wait(check.verdict())).await.unwrap_or_else(late)
                }
            };
            if let Some(verdict) = told {
                // The proof of who asked first may be at fault, and this one not.
                if joined && verdict.as_ref().is_err_and(Rejection::is_of_proof) {
                    at_least = AtLeast::New;
                    continue;
                }
                return Resolved { verdict, check: Some(check), needs_refresh: false };
            }
            // A proof is not sent twice: it would be taken for a replay.
            if !joined && presented.has_proof() {
                break;
            }
        }
        let known = self.store.get(&presented.key, presented.binding);
        let known = known.filter(|_| at_least != AtLeast::New);
        Resolved::known(known.unwrap_or_else(|| Err(verdict::unknown())))
    }

    /// Asks again about a token that was invalidated while a request waited for its extension: in the
    /// part of a check's time that is kept for what comes after that.
    pub(crate) async fn ask_again(&self, presented: &Arc<Presented>) -> Verdict {
        let unknown = || Err(verdict::unknown());
        // A proof is not sent twice: it would be taken for a replay.
        if presented.is_sent() {
            return unknown();
        }
        let asking = self.ask(presented, AtLeast::Cached);
        let resolved = Deadline::after(self.deadline / 4).wait(asking).await;
        resolved.map_or_else(unknown, |resolved| resolved.verdict)
    }

    /// Asks in the background, unless somebody asks already or too many do.
    pub(crate) fn revalidate(&self, presented: &Arc<Presented>) -> Option<Arc<PendingCheck>> {
        revalidate(&self.store, &self.remote, &self.by_current_value(presented))
    }

    /// A lease on a token by the value that it has now, and what is known of that since it was taken.
    pub(crate) fn take_lease(&self, presented: &Arc<Presented>) -> (Arc<Lease>, Option<Verdict>) {
        let Presented { key, binding, .. } = *self.by_current_value(presented);
        let lease = self.store.lease(key);
        let known = self.store.get(&key, binding);
        (lease, known)
    }

    /// What is presented, by the value that it stands for.
    pub(crate) fn by_current_value(&self, presented: &Arc<Presented>) -> Arc<Presented> {
        match self.store.alias(&presented.key, presented.binding) {
            Some(alias) => Arc::new(presented.with_value(alias.key, &alias.value)),
            None => presented.clone(),
        }
    }

    /// What is known by now of a token that was `known` when a check of it started; `None` if that is
    /// too old, and the check is to be waited for.
    pub(crate) fn known_since(
        &self,
        key: &Key,
        check: &PendingCheck,
        known: &TokenInfo,
        stale: Duration,
    ) -> Option<Verdict> {
        if check.is_invalidated() {
            let known = self.store.get(key, check.binding());
            return Some(known.unwrap_or_else(|| Err(verdict::unknown())));
        }
        let too_old = known.is_stale_beyond(stale, self.clock.now_millis());
        match check.outcome_by_now() {
            Some(verdict) if too_old || verdict::is_one(&verdict) => Some(verdict),
            None if too_old => None,
            _ => Some(Ok(known.clone())),
        }
    }

    /// Waits for a check.
    pub(crate) async fn wait(check: Arc<PendingCheck>) -> Resolved {
        let verdict = check.verdict().await.unwrap_or_else(|| Err(verdict::unknown()));
        Resolved { verdict, check: Some(check), needs_refresh: false }
    }
}
