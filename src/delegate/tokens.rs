//! Tokens for calls: made once for all who need the same, and kept until they expire.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use moka::{Expiry, sync::Cache};
use tokio::sync::watch;

use crate::{
    api::{Authlete, Error, Secret, TokenCreateAction, TokenCreateRequest, TokenCreateResponse},
    cache::{Flight, Flights, Key, Purpose},
    clock::Clock,
    observe::{LogLimit, limited},
};

/// How many tokens are kept.
const MAX_TOKENS: u64 = 10_000;

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
    /// From when on a new one is made ahead of time.
    renew_at: SystemTime,
    /// Until when it is used.
    use_until: SystemTime,
}

type Made = Result<Arc<Token>, DelegateError>;

pub(crate) struct Tokens {
    authlete: Authlete,
    clock: Clock,
    log: LogLimit,
    margin: Duration,
    kept: Cache<Key, Arc<Token>>,
    flights: Flights<Made>,
}

struct Life(Clock);

impl Expiry<Key, Arc<Token>> for Life {
    fn expire_after_create(&self, _: &Key, token: &Arc<Token>, _: Instant) -> Option<Duration> {
        Some(token.use_until.duration_since(self.0.now()).unwrap_or_default())
    }
}

impl Tokens {
    pub(crate) fn new(authlete: Authlete, clock: Clock, margin: Duration) -> Self {
        let kept =
            Cache::builder().max_capacity(MAX_TOKENS).expire_after(Life(clock.clone())).build();
        let log = LogLimit::new(&clock);
        Self { authlete, clock, log, margin, kept, flights: Flights::new() }
    }

    /// The token that is kept, or a new one.
    pub(crate) async fn get(self: &Arc<Self>, key: Key, request: TokenCreateRequest) -> Made {
        if let Some(token) = self.kept(&key) {
            if self.clock.now() >= token.renew_at {
                let _already = self.start(key, request, true);
            }
            return Ok(token);
        }
        match self.start(key, request, false) {
            Ok(token) => Ok(token),
            Err(flight) => flight.outcome().await.unwrap_or(Err(DelegateError::BrokenOff)),
        }
    }

    /// Drops a token that was of no use, unless there is a new one by now.
    pub(crate) fn drop_token(&self, key: &Key, token: &Arc<Token>) {
        let _flights = self.flights.lock();
        if self.kept.get(key).is_some_and(|kept| Arc::ptr_eq(&kept, token)) {
            self.kept.invalidate(key);
        }
    }

    fn kept(&self, key: &Key) -> Option<Arc<Token>> {
        self.kept.get(key).filter(|token| self.clock.now() < token.use_until)
    }

    /// Asks for a token, unless somebody does already or, if not `ahead` of time, has.
    fn start(
        self: &Arc<Self>,
        key: Key,
        request: TokenCreateRequest,
        ahead: bool,
    ) -> Result<Arc<Token>, Arc<Flight<Made>>> {
        let (flight, asking) = {
            let mut flights = self.flights.lock();
            if let Some(token) = self.kept(&key)
                && (!ahead || self.clock.now() < token.renew_at)
            {
                return Ok(token);
            }
            if let Some(flight) = flights.join(&key, Purpose::SHARED) {
                return Err(flight);
            }
            let (sender, flight) = flights.depart(key, Purpose::SHARED, self.clock.moment());
            let tokens = self.clone();
            (flight.clone(), Asking { tokens, key, flight, sender })
        };
        tokio::spawn(asking.run(request));
        Err(flight)
    }

    async fn make(&self, request: &TokenCreateRequest) -> Made {
        let response = self.authlete.token_create(request).await;
        let response = response.map_err(|error| DelegateError::Authlete(Arc::new(error)))?;
        let now = self.clock.now();
        let TokenCreateResponse { action, result_code: code, .. } = &response;
        let (TokenCreateAction::Ok, Some(value)) = (action, response.access_token.clone()) else {
            return Err(DelegateError::Refused { action: *action, code: code.clone() });
        };
        // A JWT is what is presented, if the service makes them.
        let value = response.jwt_access_token.clone().unwrap_or(value);
        let life = response
            .expires_at()
            .map_or(Duration::from_secs(3600), |at| at.duration_since(now).unwrap_or_default());
        // Of a short life, the margin is not to take more than a quarter.
        let used = life - self.margin.min(life / 4);
        Ok(Arc::new(Token { value, renew_at: now + used * 4 / 5, use_until: now + used }))
    }
}

/// A token that is being asked for, which takes itself off the table whatever becomes of it.
struct Asking {
    tokens: Arc<Tokens>,
    key: Key,
    flight: Arc<Flight<Made>>,
    sender: watch::Sender<Option<Made>>,
}

impl Asking {
    async fn run(self, request: TokenCreateRequest) {
        let made = self.tokens.make(&request).await;
        if let Err(error) = &made {
            let cause = error as &dyn std::error::Error;
            limited!(
                warn,
                self.tokens.log,
                error = cause,
                "there is no token for a call to another service"
            );
        }
        {
            let mut flights = self.tokens.flights.lock();
            flights.land(&self.key, &self.flight);
            if let Ok(token) = &made {
                self.tokens.kept.insert(self.key, token.clone());
            }
        }
        self.sender.send_replace(Some(made));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.tokens.flights.lock().land(&self.key, &self.flight);
    }
}
