//! Asks Authlete about a token, and reads the answer.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;

use crate::{
    api::{
        Authlete, Error, IntrospectionAction, IntrospectionRequest, IntrospectionResponse, Secret,
        TokenRevokeRequest, TokenUpdateRequest, TokenUpdateResponse,
    },
    clock::Clock,
    observe::{LogLimit, counters},
    rejection::{Refuser, Rejection},
    resilience::{Availability, Health, Resilience, ResilientClient, RetryMode},
    verdict::{self, Verdict},
};

mod presented;
pub(crate) mod reading;
mod remote;

pub(crate) use self::{
    presented::{Presented, Sent},
    reading::is_gone,
    remote::{Attempts, Remote, Reply},
};

const INTROSPECTION: &str = "/auth/introspection";
const UPDATE: &str = "/auth/token/update";
const REVOKE: &str = "/auth/token/revoke";

/// By which API a token is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CheckApi {
    /// `/auth/introspection`, which tells all facts.
    #[default]
    Introspection,
    /// `/auth/token/update` with nothing to change, for services that may only use the token
    /// management APIs. It tells expiry, scopes, properties, authorization details and token type,
    /// but no subject, client, audience or authentication: requirements of those are never met.
    ///
    /// **It cannot tell that a token is bound to a client certificate** (RFC 8705): such a token
    /// passes without its certificate. Choose it only if your service issues no such tokens. Tokens
    /// of another type than Bearer are refused.
    Update,
}

impl CheckApi {
    #[cfg(feature = "redis")]
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Introspection => INTROSPECTION,
            Self::Update => UPDATE,
        }
    }
}

/// Asks Authlete about tokens, within the limits of the policy.
pub(crate) struct Introspector {
    authlete: Authlete,
    check: CheckApi,
    client: ResilientClient,
    clock: Clock,
    log: LogLimit,
    /// Goes into the facts of tokens.
    refuser: Arc<Refuser>,
    /// It was logged that Authlete's clock and this one differ.
    clocks_differ: AtomicBool,
    /// The nonce for DPoP proofs that Authlete told last.
    nonce: RwLock<Option<HeaderValue>>,
}

impl Introspector {
    pub(crate) fn new(
        authlete: Authlete,
        check: CheckApi,
        policy: Resilience,
        refuser: Arc<Refuser>,
        log: LogLimit,
    ) -> Self {
        Self {
            authlete,
            check,
            client: ResilientClient::new(policy),
            clock: refuser.clock().clone(),
            log,
            refuser,
            clocks_differ: AtomicBool::new(false),
            nonce: RwLock::default(),
        }
    }

    pub(crate) fn check(&self) -> CheckApi {
        self.check
    }

    /// How Authlete is doing; so many good tokens are known.
    pub(crate) fn health(&self, entries: u64) -> Health {
        self.client.record.health(entries, self.client.in_flight(), self.clock.now())
    }

    /// Makes a call of which only matters that it is answered.
    pub(crate) async fn warm_up(&self) -> Result<(), Error> {
        let request = IntrospectionRequest::new().token("warm-up");
        let record = &self.client.record;
        let permit = record.breaker.pass();
        let answer = self.authlete.introspection(&request).await;
        let error = answer.as_ref().err();
        // It writes to the log.
        let _ = error.map(|error| reading::of_failure(error, &self.log));
        record.add(error.is_none(), self.clock.now());
        record.end(permit, error, self.clock.now_millis());
        answer.map(|_| ())
    }

    /// The nonce for DPoP proofs that Authlete demands, if it does.
    #[cfg(feature = "dpop")]
    pub(crate) fn nonce(&self) -> Option<HeaderValue> {
        self.nonce.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the nonce that an answer tells. An answer to a proof that tells none demands none.
    fn learn_nonce(&self, request: &IntrospectionRequest, response: &IntrospectionResponse) {
        let told = response.dpop_nonce.as_deref().filter(|nonce| !nonce.is_empty());
        let told = told.and_then(|nonce| HeaderValue::from_str(nonce).ok());
        let ok = response.action == IntrospectionAction::Ok;
        let ended = ok && request.dpop.is_some();
        if told.is_some() || ended {
            let mut nonce = self.nonce.write().unwrap_or_else(PoisonError::into_inner);
            *nonce = told;
        }
    }

    async fn verdict(&self, presented: &Presented, known_good: bool) -> Verdict {
        let record = &self.client.record;
        let permit = match record.breaker.enter(self.clock.now_millis()) {
            Ok(permit) => permit,
            Err(left) => {
                counters::suspended();
                let refused = record.credentials_refused();
                return Err(if refused {
                    verdict::at_fault()
                } else {
                    Rejection::unavailable(left)
                });
            }
        };
        let retry = match presented.has_proof() {
            _ if permit.is_probe() => RetryMode::Never,
            // A proof that was sent would be taken for a replay.
            true => RetryMode::IfUnsent,
            false => RetryMode::Always,
        };
        let told = match self.check {
            CheckApi::Introspection => {
                self.told_by_introspection(presented, known_good, retry).await
            }
            CheckApi::Update => self.told_by_update(presented, retry).await,
        };
        let Some(told) = told else { return Err(verdict::overloaded(&self.log)) };
        record.end(permit, told.as_ref().err(), self.clock.now_millis());
        let verdict = told.unwrap_or_else(|error| Err(reading::of_failure(&error, &self.log)));
        let answered = verdict.as_ref().map_or_else(Rejection::is_of_client, |_| true);
        counters::called(answered);
        record.add(answered, self.clock.now());
        if verdict.as_ref().is_ok_and(|token| token.is_past(self.clock.now_millis())) {
            self.warn_of_clocks();
        }
        verdict.map(|token| token.guarded(&self.refuser, &presented.key))
    }

    /// What `/auth/introspection` says of a token; `None` if there was no time for it.
    async fn told_by_introspection(
        &self,
        presented: &Presented,
        known_good: bool,
        retry: RetryMode,
    ) -> Option<Result<Verdict, Error>> {
        let deadline = self.client.deadline();
        let request = presented.request();
        let ask = async |request: &IntrospectionRequest, retry| {
            let attempt = || self.authlete.introspection(request);
            let response = self.client.check(INTROSPECTION, retry, attempt).await?;
            Some(response.map(|response| {
                self.learn_nonce(request, &response);
                reading::of_introspection(&response, &self.log)
            }))
        };
        let told = ask(&request, retry).await;
        // Where a token has to be bound to the key of its proof, and is not known to be.
        let only_dpop = self.refuser.challenges().only_dpop;
        let to_confirm = only_dpop && presented.has_proof() && !known_good;
        if !to_confirm || !matches!(told, Some(Ok(Ok(_)))) {
            return told;
        }
        // RFC 9449 §7.1: the proof's key is the one that the token is bound to. The answer does not tell
        // whether it is bound to any; then it would be good without a proof, too.
        let bare =
            IntrospectionRequest { dpop: None, htm: None, htu: None, ..request.into_owned() };
        let retry = if matches!(retry, RetryMode::Never) { retry } else { RetryMode::Always };
        let too_late = || Some(Ok(Err(verdict::unknown())));
        match deadline.wait(ask(&bare, retry)).await.unwrap_or_else(too_late) {
            Some(Ok(Ok(_))) => Some(Ok(Err(Rejection::invalid_token(
                "the access token is bound to no key, which is required here",
            )))),
            Some(Ok(Err(rejection))) if rejection.is_of_client() => told,
            unknown => unknown,
        }
    }

    /// What `/auth/token/update` says of a token; `None` if there was no time for it.
    async fn told_by_update(
        &self,
        presented: &Presented,
        retry: RetryMode,
    ) -> Option<Result<Verdict, Error>> {
        let request = TokenUpdateRequest::new().access_token(presented.token());
        let attempt = || self.authlete.token_update(&request);
        let response = self.client.check(UPDATE, retry, attempt).await?;
        Some(response.map(|it| reading::of_update(&it, self.clock.now(), &self.log)))
    }

    fn warn_of_clocks(&self) {
        if !self.clocks_differ.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "Authlete says that an access token is good which has expired by this machine's \
                 clock; such tokens are not cached; check that the clock is right"
            );
        }
    }

    /// One attempt of an update, if there is time for it.
    async fn update_within(
        &self,
        request: &TokenUpdateRequest,
        time: Result<Duration, Error>,
    ) -> Result<TokenUpdateResponse, Error> {
        let time = time?;
        let update = tokio::time::timeout(time, self.authlete.token_update(request)).await;
        update.unwrap_or_else(|_| Err(Error::deadline(UPDATE, time)))
    }
}

impl Remote for Introspector {
    fn introspect<'r>(&'r self, presented: &'r Presented, known_good: bool) -> Reply<'r, Verdict> {
        Box::pin(self.verdict(presented, known_good))
    }

    fn update<'r>(
        &'r self,
        request: &'r TokenUpdateRequest,
        attempts: Attempts<'r>,
    ) -> Reply<'r, Result<TokenUpdateResponse, Error>> {
        Box::pin(async move {
            let attempt = || self.authlete.token_update(request);
            match attempts {
                Attempts::One => attempt().await,
                // Not limited as checks are, of which somebody may make too many.
                Attempts::Policy => self.client.call(UPDATE, RetryMode::Always, attempt).await,
                Attempts::Within(time) => {
                    let attempt = || self.update_within(request, time());
                    self.client.call(UPDATE, RetryMode::Always, attempt).await
                }
            }
        })
    }

    fn revoke<'r>(&'r self, value: &'r Secret) -> Reply<'r, Result<u64, Error>> {
        Box::pin(async move {
            let request = TokenRevokeRequest::new().access_token_identifier(value);
            let attempt = || self.authlete.token_revoke(&request);
            let revoked = self.client.call(REVOKE, RetryMode::Always, attempt).await?;
            Ok(revoked.count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
        })
    }

    fn availability(&self) -> Availability {
        self.client.record.availability(self.clock.now())
    }
}
