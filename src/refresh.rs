//! Does a token need a longer life? Sliding expiry by `/auth/token/update`.

use std::{
    collections::HashSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use moka::sync::Cache;

use crate::{
    api::ConfigError,
    cache::Key,
    clock::CENTURY,
    observe::{LogLimit, limited},
    token::TokenInfo,
};

/// How many tokens are extended at a time; further ones have to wait for their next request.
const MAX_UNDER_WAY: usize = 64;

/// Of how many tokens the first sight is remembered.
pub(crate) const MAX_REMEMBERED: u64 = 100_000;

type Chooses = Arc<dyn Fn(&TokenInfo) -> bool + Send + Sync>;

/// How tokens are kept alive that are in use.
///
/// A token that was just found good, and has less than [`when_below`](Self::when_below) left, gets a
/// life of [`to`](Self::to) from now on. Authlete is told beside the request, which does not wait for
/// it, and a failure to do so is logged and changes nothing.
///
/// Extending an expired token would bring it back to life. So an update is only ever sent right after
/// an introspection that said that the token is good, never because of what is cached: a cached
/// answer that falls below the threshold only leads to a new introspection in the background. Nor is
/// it sent after [`AuthHandle::update`](crate::AuthHandle::update) has changed the token since; but one
/// that is on its way at that moment may be applied later. To end a token, revoke it.
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::{AuthLayer, Refresh};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
/// let refresh = Refresh::extend()
///     .when_below(minutes(5))
///     .to(minutes(30))
///     .never_beyond(minutes(12 * 60))
///     .when(|token| token.scopes().contains("session"));
/// let auth = AuthLayer::builder(authlete).refresh(refresh).build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Refresh {
    when_below: Duration,
    to: Duration,
    never_beyond: Duration,
    wait: bool,
    chooses: Option<Chooses>,
}

impl Refresh {
    /// Extends tokens with less than 5 minutes left to 30 minutes, for 12 hours at most.
    #[must_use]
    pub fn extend() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            when_below: minutes(5),
            to: minutes(30),
            never_beyond: minutes(12 * 60),
            wait: false,
            chooses: None,
        }
    }

    /// Below which rest of its life a token is extended.
    #[must_use]
    pub fn when_below(self, when_below: Duration) -> Self {
        Self { when_below, ..self }
    }

    /// How long a token lives from then on.
    #[must_use]
    pub fn to(self, to: Duration) -> Self {
        Self { to, ..self }
    }

    /// How long a token lives in all: counted from the user's authentication, or if that is not
    /// known, from when this layer first saw the token. The latter is forgotten when the process
    /// ends, and when there are more than 100 000 tokens.
    #[must_use]
    pub fn never_beyond(self, never_beyond: Duration) -> Self {
        Self { never_beyond, ..self }
    }

    /// Which tokens are extended. Default: all. If it panics, the token is not.
    #[must_use]
    pub fn when(self, chooses: impl Fn(&TokenInfo) -> bool + Send + Sync + 'static) -> Self {
        Self { chooses: Some(Arc::new(chooses)), ..self }
    }

    /// Lets the request wait until Authlete has been told, so that it sees the new expiry, but no longer
    /// than most of [a check's time](crate::AuthLayerBuilder::check_deadline).
    #[must_use]
    pub fn wait(self) -> Self {
        Self { wait: true, ..self }
    }

    /// A panic of who chooses is not one of the check that found out about the token.
    fn is_chosen(&self, token: &TokenInfo, log: &LogLimit) -> bool {
        let Some(chooses) = &self.chooses else { return true };
        catch_unwind(AssertUnwindSafe(|| chooses(token))).unwrap_or_else(|_| {
            limited!(error, log, "`Refresh::when` panicked; the access token is not extended");
            false
        })
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.when_below.is_zero() {
            let remedy = "give the rest of a token's life below which it is extended";
            return Err(ConfigError::new("refresh.when_below", "0", remedy));
        }
        if self.to <= self.when_below {
            let problem = format!(
                "{} ms, and when_below is {} ms",
                self.to.as_millis(),
                self.when_below.as_millis()
            );
            let remedy = "give more than when_below, or every request would extend the token";
            return Err(ConfigError::new("refresh.to", problem, remedy));
        }
        if self.never_beyond < self.to {
            let problem = format!(
                "{} ms, and to is {} ms",
                self.never_beyond.as_millis(),
                self.to.as_millis()
            );
            let remedy = "give the longest life of a token, which is not less than `to`";
            return Err(ConfigError::new("refresh.never_beyond", problem, remedy));
        }
        Ok(())
    }
}

impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh")
            .field("when_below", &self.when_below)
            .field("to", &self.to)
            .field("never_beyond", &self.never_beyond)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// Times of tokens, each of which is remembered until nobody has asked for it for so long.
pub(crate) fn remembered(idle: Duration) -> Cache<Key, SystemTime> {
    Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(idle.min(CENTURY)).build()
}

/// Decides which tokens are extended, and sees to it that each is extended once at a time.
pub(crate) struct Extender {
    refresh: Refresh,
    log: LogLimit,
    under_way: Mutex<HashSet<Key>>,
    first_seen: Cache<Key, SystemTime>,
    /// When a token was last tried. A failure is not tried again by the very next request.
    tried: Cache<Key, SystemTime>,
    /// When a token was last looked at again because of it.
    looked: Cache<Key, SystemTime>,
}

/// Leave to extend a token, alone, until it is dropped.
pub(crate) struct Leave<'e> {
    extender: &'e Extender,
    key: Key,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.extender.under_way().remove(&self.key);
    }
}

impl Extender {
    pub(crate) fn new(refresh: Refresh, log: LogLimit) -> Self {
        let never_beyond = refresh.never_beyond;
        Self {
            tried: remembered(refresh.when_below),
            looked: remembered(refresh.when_below),
            first_seen: remembered(never_beyond),
            under_way: Mutex::default(),
            refresh,
            log,
        }
    }

    /// Whether requests wait for it.
    pub(crate) fn waits(&self) -> bool {
        self.refresh.wait
    }

    fn under_way(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when a token is to live, if it is to be extended.
    pub(crate) fn wants(
        &self,
        key: &Key,
        token: &TokenInfo,
        now: SystemTime,
    ) -> Option<SystemTime> {
        let expires_at = token.expires_at()?;
        let left = expires_at.duration_since(now).ok()?;
        if left.is_zero()
            || left >= self.refresh.when_below
            || !self.refresh.is_chosen(token, &self.log)
        {
            return None;
        }
        let begin = token.auth_time().unwrap_or_else(|| self.seen(key, now));
        let until = now.checked_add(self.refresh.to)?;
        let until =
            begin.checked_add(self.refresh.never_beyond).map_or(until, |end| until.min(end));
        (until > expires_at).then_some(until)
    }

    /// When a token was first seen, which is now unless it was before.
    pub(crate) fn seen(&self, key: &Key, now: SystemTime) -> SystemTime {
        self.first_seen.get_with(*key, || now)
    }

    /// Whether a token that is below the threshold should be looked at again, which is then taken
    /// to be done.
    pub(crate) fn look(&self, key: &Key, token: &TokenInfo, now: SystemTime) -> bool {
        let due = self.wants(key, token, now).is_some()
            && !self.under_way().contains(key)
            && self.has_rested(&self.tried, key, now)
            && self.has_rested(&self.looked, key, now);
        if due {
            self.looked.insert(*key, now);
        }
        due
    }

    fn has_rested(&self, last: &Cache<Key, SystemTime>, key: &Key, now: SystemTime) -> bool {
        let pause = self.refresh.when_below / 4;
        last.get(key).is_none_or(|at| now.duration_since(at).is_ok_and(|age| age >= pause))
    }

    /// Leave to extend the token, unless it is being extended, was tried a moment ago, or too many
    /// are under way.
    pub(crate) fn leave(&self, key: Key, now: SystemTime) -> Option<Leave<'_>> {
        let mut under_way = self.under_way();
        let rested = self.has_rested(&self.tried, &key, now);
        if under_way.len() >= MAX_UNDER_WAY || !rested || !under_way.insert(key) {
            return None;
        }
        self.tried.insert(key, now);
        Some(Leave { extender: self, key })
    }
}
