//! Tokens for calls: made once for all who need the same, and kept until they expire.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use crate::{
    api::{
        Authlete, Error, Secret, TokenCreateAction, TokenCreateRequest, TokenCreateResponse,
        TokenRevokeRequest,
    },
    clock::{CENTURY, Clock, Moment},
    observe::{LogLimit, limited},
    single_flight::{Call, Join, Leader, SingleFlight},
    store::Key,
    token::TokenInfo,
};

/// How many tokens are kept.
const MAX_TOKENS: u64 = 10_000;

/// How often a token is asked for anew, if the inbound one was invalidated meanwhile.
const ATTEMPTS: usize = 4;

/// Why there is no token for a call to another service. The call is not made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DelegateError {
    /// The outbound request has no [`TokenInfo`](crate::TokenInfo) in its extensions, so that it is
    /// not known on whose behalf it is made.
    #[error("the outbound request has no TokenInfo of an inbound one in its extensions")]
    NoInboundToken,
    /// The inbound token is not for a user.
    #[error("the inbound token has no subject")]
    NoSubject,
    /// The inbound token has none of the scopes that calls are made with.
    #[error("the inbound token has none of the scopes of the call")]
    NoScopes,
    /// The inbound token has expired, or does so within a second, which is the shortest life of a token.
    #[error("the inbound token has expired")]
    InboundExpired,
    /// The inbound token, or another of its shard, was invalidated again and again while a token was
    /// asked for.
    #[error("the inbound token is invalidated faster than a token can be made")]
    Invalidated,
    /// Authlete made a token that exceeds what was asked for: by scopes, such as default ones of the
    /// service, or by a longer life. It is not used, and is revoked if that can be done.
    #[error("the token that was made exceeds what was asked for: {0}")]
    Excess(&'static str),
    /// Authlete could not be asked for a token.
    #[error("no token could be made")]
    Authlete(#[source] Arc<Error>),
    /// Authlete made no token, for example since the client or a scope is not known.
    #[error("no token was made: {action:?} ({})", .code.as_deref().unwrap_or("no code"))]
    #[non_exhaustive]
    Refused {
        /// What it answered.
        action: TokenCreateAction,
        /// `resultCode`, for logs.
        code: Option<String>,
    },
    /// The task that asked for the token broke off.
    #[error("asking for a token broke off")]
    BrokenOff,
}

/// A token for calls.
pub(crate) struct Token {
    pub(crate) value: Secret,
    /// By what Authlete knows it.
    named: Secret,
    /// From when on a new one is made ahead of time.
    renew_at: Moment,
    /// Until when it is used.
    use_until: Moment,
    /// The epoch of the inbound token when it was asked for.
    epoch: Option<u64>,
}

type Made = Result<Arc<Token>, DelegateError>;

/// A token that is to be had.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) key: Key,
    pub(crate) request: TokenCreateRequest,
    /// How long the token may live.
    pub(crate) life: Duration,
    /// Whether it is the inbound token that bounds its life, so that no other one would live longer.
    pub(crate) bounded: bool,
    /// On whose behalf it is used.
    pub(crate) inbound: Option<TokenInfo>,
}

impl Order {
    /// How often tokens of the inbound token's shard were invalidated; `None` without one, or where
    /// nobody counts.
    fn epoch(&self) -> Option<u64> {
        let (guard, shard) = self.inbound.as_ref()?.place()?;
        Some(guard.epoch(shard))
    }
}

pub(crate) struct Tokens {
    authlete: Authlete,
    clock: Clock,
    log: LogLimit,
    margin: Duration,
    kept: Cache<Key, Arc<Token>>,
    calls: SingleFlight<Key, Made>,
}

impl Tokens {
    /// For tokens that live for `life` at most.
    pub(crate) fn new(authlete: Authlete, clock: Clock, life: Duration, margin: Duration) -> Self {
        let log = LogLimit::new(&clock);
        // Whether one is used is looked at by our clock.
        let kept = Cache::builder().max_capacity(MAX_TOKENS).time_to_live(life.min(CENTURY));
        Self { authlete, clock, log, margin, kept: kept.build(), calls: SingleFlight::new() }
    }

    /// The token that is kept, or a new one.
    pub(crate) async fn get(self: &Arc<Self>, order: &Order) -> Made {
        for _ in 0..ATTEMPTS {
            if let Some(token) = self.kept(order) {
                if token.renew_at.is_past(self.clock.moment()) {
                    let _already = self.start(order, true);
                }
                return Ok(token);
            }
            let token = match self.start(order, false) {
                Ok(token) => token,
                Err(call) => call.outcome().await.unwrap_or(Err(DelegateError::BrokenOff))?,
            };
            if self.is_usable(&token, order) {
                return Ok(token);
            }
        }
        Err(DelegateError::Invalidated)
    }

    /// Drops a token that was of no use, unless there is a new one by now.
    pub(crate) fn drop_token(&self, key: &Key, token: &Arc<Token>) {
        let _calls = self.calls.lock();
        if self.kept.get(key).is_some_and(|kept| Arc::ptr_eq(&kept, token)) {
            self.kept.invalidate(key);
        }
    }

    fn kept(&self, order: &Order) -> Option<Arc<Token>> {
        self.kept.get(&order.key).filter(|token| self.is_usable(token, order))
    }

    /// Whether it has not come to its end, and the inbound token was not invalidated since it was asked
    /// for.
    fn is_usable(&self, token: &Token, order: &Order) -> bool {
        !token.use_until.is_past(self.clock.moment()) && token.epoch == order.epoch()
    }

    /// Asks for a token, unless somebody does already or, if not `ahead` of time, has.
    fn start(self: &Arc<Self>, order: &Order, ahead: bool) -> Result<Arc<Token>, Arc<Call<Made>>> {
        let (call, leader) = {
            let mut calls = self.calls.lock();
            if let Some(token) = self.kept(order)
                && (!ahead || !token.renew_at.is_past(self.clock.moment()))
            {
                return Ok(token);
            }
            match calls.join(order.key) {
                Join::Wait(call) => return Err(call),
                Join::Lead(call, leader) => (call, leader),
            }
        };
        let epoch = order.epoch();
        tokio::spawn(self.clone().ask(order.clone(), epoch, leader));
        Err(call)
    }

    /// Asks for a token. `epoch`: that of the inbound token when it set out.
    async fn ask(self: Arc<Self>, order: Order, epoch: Option<u64>, leader: Leader<Key, Made>) {
        let made = self.make(&order, epoch).await;
        if let Err(error) = &made {
            let cause = error as &dyn std::error::Error;
            limited!(
                warn,
                self.log,
                error = cause,
                "there is no token for a call to another service"
            );
        }
        let useless = leader.publish(|| {
            let token = made.as_ref().ok()?;
            if epoch != order.epoch() {
                return Some(token.named.clone());
            }
            self.kept.insert(order.key, token.clone());
            None
        });
        leader.complete(made);
        if let Some(token) = useless {
            self.revoke(token);
        }
    }

    async fn make(&self, order: &Order, epoch: Option<u64>) -> Made {
        let now = self.clock.moment();
        let response = self.authlete.token_create(&order.request).await;
        let response = response.map_err(|error| DelegateError::Authlete(Arc::new(error)))?;
        let TokenCreateResponse { action, result_code: code, .. } = &response;
        let (TokenCreateAction::Ok, Some(named)) = (action, response.access_token.clone()) else {
            return Err(DelegateError::Refused { action: *action, code: code.clone() });
        };
        let life = response.expires_in().unwrap_or(order.life);
        if let Some(what) = excess(order, &response, life) {
            self.revoke(named);
            return Err(DelegateError::Excess(what));
        }
        // A JWT is what is presented, if the service makes them.
        let value = response.jwt_access_token.clone().unwrap_or_else(|| named.clone());
        // Of a short life, the margin is not to take more than a quarter. There is none where another
        // token would end at the same time.
        let used = if order.bounded { life } else { life - self.margin.min(life / 4) };
        let renewed = if order.bounded { used } else { used * 4 / 5 };
        let (renew_at, use_until) = (now.after(renewed), now.after(used));
        Ok(Arc::new(Token { value, named, renew_at, use_until, epoch }))
    }

    /// Ends a token that is not used, if that can be done; nobody waits for it.
    fn revoke(&self, token: Secret) {
        let (authlete, log) = (self.authlete.clone(), self.log.clone());
        tokio::spawn(async move {
            let request = TokenRevokeRequest::new().access_token_identifier(token);
            if let Err(error) = authlete.token_revoke(&request).await {
                let cause = &error as &dyn std::error::Error;
                limited!(warn, log, error = cause, "a token that is not used could not be revoked");
            }
        });
    }
}

/// What a token has that was not asked for.
fn excess(order: &Order, token: &TokenCreateResponse, life: Duration) -> Option<&'static str> {
    let Order { request, .. } = order;
    if !token.scopes.iter().all(|scope| request.scopes.contains(scope)) {
        return Some("scopes");
    }
    (life > order.life).then_some("a longer life")
}
