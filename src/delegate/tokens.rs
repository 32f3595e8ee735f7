//! Tokens for outbound calls: a cache with single-flight creation.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use crate::{
    api::{
        Authlete, Error, Secret, TokenCreateAction, TokenCreateRequest, TokenCreateResponse,
        TokenRevokeRequest,
    },
    clock::{CENTURY, Clock, Moment},
    observe::{LogLimit, limited},
    rejection::Refuser,
    single_flight::{Call, Join, Leader, SingleFlight},
    store::{Key, Lease},
    token::TokenInfo,
};

/// The capacity of the cache.
const MAX_TOKENS: u64 = 10_000;

/// How many tokens a call asks for at most, if the inbound token is invalidated each time before the new
/// one is used.
const ATTEMPTS: usize = 4;

/// There is no token for an outbound call, so the call is not made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DelegateError {
    /// The outbound request has no [`TokenInfo`](crate::TokenInfo) in its extensions, so that its user is
    /// unknown.
    #[error("the outbound request has no TokenInfo of an inbound one in its extensions")]
    NoInboundToken,
    /// The inbound token has no subject, for example since it was issued by the client credentials flow.
    #[error("the inbound token has no subject")]
    NoSubject,
    /// The inbound token has none of the [scopes](crate::delegate::DelegateLayer::scopes) of calls.
    #[error("the inbound token has none of the scopes of the call")]
    NoScopes,
    /// The inbound token has expired, or expires within a second, which is the shortest life of a token.
    #[error("the inbound token has expired")]
    InboundExpired,
    /// The inbound token was invalidated during each of several attempts to create a token.
    #[error("the inbound token is invalidated faster than a token can be made")]
    Invalidated,
    /// Authlete created a token that exceeds the request: by scopes, such as default scopes of the service,
    /// or by a longer life. It is not used, and its revocation is attempted in the background.
    #[error("the token that was made exceeds what was asked for: {0}")]
    Excess(&'static str),
    /// The call to Authlete failed.
    #[error("no token could be made")]
    Authlete(#[source] Arc<Error>),
    /// Authlete refused to create a token, for example since the client or a scope is unknown.
    #[error("no token was made: {action:?} ({})", .code.as_deref().unwrap_or("no code"))]
    #[non_exhaustive]
    Refused {
        /// The `action` of its response.
        action: TokenCreateAction,
        /// `resultCode`, for logs.
        code: Option<String>,
    },
    /// The task that asked for the token ended without a result: it panicked, or its runtime shut down.
    #[error("the task that asked for a token was aborted")]
    Aborted,
}

/// An access token for outbound calls.
pub(crate) struct DelegatedToken {
    /// What requests carry.
    pub(crate) value: Secret,
    /// The value by which Authlete knows the token. It differs from `value` if that is a JWT.
    identifier: Secret,
    /// From when on a use renews the token in the background.
    renew_at: Moment,
    /// Until when the token is used.
    use_until: Moment,
    /// Of the inbound token.
    lease: Option<Arc<Lease>>,
}

impl DelegatedToken {
    /// Whether the inbound token was invalidated since the call to Authlete started.
    fn is_invalidated(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_void())
    }
}

type TokenResult = Result<Arc<DelegatedToken>, DelegateError>;

/// The token that a call needs.
#[derive(Clone)]
pub(crate) struct TokenSpec {
    pub(crate) key: Key,
    pub(crate) request: TokenCreateRequest,
    /// The longest life that the token may have.
    pub(crate) life: Duration,
    /// Whether `life` is that of the inbound token, so that no other token could live longer.
    pub(crate) expires_with_inbound: bool,
    pub(crate) inbound: Option<TokenInfo>,
}

impl TokenSpec {
    /// The lease of the inbound token; `None` without one, or without a layer that it belongs to.
    fn lease(&self) -> Option<Arc<Lease>> {
        let inbound = self.inbound.as_ref()?;
        Some(Refuser::of(inbound)?.lease(inbound.key()?))
    }
}

/// The tokens of a [`DelegateService`](super::DelegateService) and its clones.
///
/// A token is cached and used only if the inbound token was not invalidated since the call to Authlete started.
pub(crate) struct DelegatedTokens {
    authlete: Authlete,
    clock: Clock,
    log: LogLimit,
    margin: Duration,
    cache: Cache<Key, Arc<DelegatedToken>>,
    calls: SingleFlight<Key, TokenResult>,
}

impl DelegatedTokens {
    /// For tokens that live for `life` at most.
    pub(crate) fn new(authlete: Authlete, clock: Clock, life: Duration, margin: Duration) -> Self {
        let log = LogLimit::new(&clock);
        // `time_to_live` only frees memory: whether a token is used depends on `clock`.
        let cache = Cache::builder().max_capacity(MAX_TOKENS).time_to_live(life.min(CENTURY));
        Self { authlete, clock, log, margin, cache: cache.build(), calls: SingleFlight::new() }
    }

    /// The cached token, or a new one.
    pub(crate) async fn get(self: &Arc<Self>, spec: &TokenSpec) -> TokenResult {
        for _ in 0..ATTEMPTS {
            if let Some(token) = self.cached(spec) {
                if token.renew_at.is_past(self.clock.moment()) {
                    let _already = self.start(spec, true);
                }
                return Ok(token);
            }
            let token = match self.start(spec, false) {
                Ok(token) => token,
                Err(call) => call.outcome().await.unwrap_or(Err(DelegateError::Aborted))?,
            };
            if self.is_usable(&token) {
                return Ok(token);
            }
        }
        Err(DelegateError::Invalidated)
    }

    /// Removes a token that was refused, unless the cache has a newer one.
    pub(crate) fn discard(&self, key: &Key, token: &Arc<DelegatedToken>) {
        let _calls = self.calls.lock();
        if self.cache.get(key).is_some_and(|cached| Arc::ptr_eq(&cached, token)) {
            self.cache.invalidate(key);
        }
    }

    fn cached(&self, spec: &TokenSpec) -> Option<Arc<DelegatedToken>> {
        self.cache.get(&spec.key).filter(|token| self.is_usable(token))
    }

    /// Whether the token has not expired, and the inbound token was not invalidated since the call to
    /// Authlete started.
    fn is_usable(&self, token: &DelegatedToken) -> bool {
        !token.use_until.is_past(self.clock.moment()) && !token.is_invalidated()
    }

    /// Returns the cached token, or the call that creates one, which is started unless it is in flight.
    /// To `renew`, a cached token that is due does not count.
    fn start(
        self: &Arc<Self>,
        spec: &TokenSpec,
        renew: bool,
    ) -> Result<Arc<DelegatedToken>, Arc<Call<TokenResult>>> {
        let (call, leader) = {
            let mut calls = self.calls.lock();
            if let Some(token) = self.cached(spec)
                && (!renew || !token.renew_at.is_past(self.clock.moment()))
            {
                return Ok(token);
            }
            match calls.join(spec.key) {
                Join::Wait(call) => return Err(call),
                Join::Lead(call, leader) => (call, leader),
            }
        };
        tokio::spawn(self.clone().lead(spec.clone(), spec.lease(), leader));
        Err(call)
    }

    /// The leader's task: creates a token for all waiters. The lease is taken at the start.
    async fn lead(
        self: Arc<Self>,
        spec: TokenSpec,
        lease: Option<Arc<Lease>>,
        leader: Leader<Key, TokenResult>,
    ) {
        let result = self.create(&spec, lease).await;
        if let Err(error) = &result {
            let cause = error as &dyn std::error::Error;
            limited!(
                warn,
                self.log,
                error = cause,
                "there is no token for a call to another service"
            );
        }
        let invalidated = leader.publish(|| {
            let token = result.as_ref().ok()?;
            if token.is_invalidated() {
                return Some(token.identifier.clone());
            }
            self.cache.insert(spec.key, token.clone());
            None
        });
        leader.complete(result);
        if let Some(identifier) = invalidated {
            self.revoke(identifier);
        }
    }

    async fn create(&self, spec: &TokenSpec, lease: Option<Arc<Lease>>) -> TokenResult {
        let now = self.clock.moment();
        let response = self.authlete.token_create(&spec.request).await;
        let response = response.map_err(|error| DelegateError::Authlete(Arc::new(error)))?;
        let TokenCreateResponse { action, result_code: code, .. } = &response;
        let (TokenCreateAction::Ok, Some(identifier)) = (action, response.access_token.clone())
        else {
            return Err(DelegateError::Refused { action: *action, code: code.clone() });
        };
        let life = response.expires_in().unwrap_or(spec.life);
        if let Some(what) = excess(spec, &response, life) {
            self.revoke(identifier);
            return Err(DelegateError::Excess(what));
        }
        // Services that issue JWT access tokens expect the JWT.
        let value = response.jwt_access_token.clone().unwrap_or_else(|| identifier.clone());
        // Without a margin if the inbound token expires at the same time: a new one would not live longer.
        let (fresh, used) = if spec.expires_with_inbound {
            (life, life)
        } else {
            let used = life - self.margin.min(life / 4);
            (used * 4 / 5, used)
        };
        let (renew_at, use_until) = (now.after(fresh), now.after(used));
        Ok(Arc::new(DelegatedToken { value, identifier, renew_at, use_until, lease }))
    }

    /// Revokes a token that is not used, in the background. A failure is logged.
    fn revoke(&self, identifier: Secret) {
        let (authlete, log) = (self.authlete.clone(), self.log.clone());
        tokio::spawn(async move {
            let request = TokenRevokeRequest::new().access_token_identifier(identifier);
            if let Err(error) = authlete.token_revoke(&request).await {
                let cause = &error as &dyn std::error::Error;
                limited!(warn, log, error = cause, "a token that is not used could not be revoked");
            }
        });
    }
}

/// What the token has beyond the request.
fn excess(spec: &TokenSpec, token: &TokenCreateResponse, life: Duration) -> Option<&'static str> {
    if !token.scopes.iter().all(|scope| spec.request.scopes.contains(scope)) {
        return Some("scopes");
    }
    (life > spec.life).then_some("a longer life")
}
