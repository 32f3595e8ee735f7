//! The Authlete of the explorations. It has one token, and what it is asked takes effect at once.

use core::{
    mem::replace,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::{sync::Arc, time::SystemTime};

use tower_authlete_model::Register;

use crate::{
    TOKEN,
    api::{Error, Secret, TokenUpdateAction, TokenUpdateRequest, TokenUpdateResponse},
    introspect::{Attempts, Presented, Remote, Reply},
    rejection::Rejection,
    resilience::{Availability, BreakerState},
    token::{Facts, TokenInfo},
    verdict::Verdict,
};

/// The values that the token has one after the other.
pub(crate) const VALUES: [&str; 3] = [TOKEN, "second", "third"];

/// By what it names the token, whatever its value.
const ID: &str = "id";

pub(crate) struct Authlete {
    token: Register<Token>,
    /// Whether the next extension gets no answer, and is not made.
    pub(crate) fails: AtomicBool,
    /// What changes are followed by an invalidation that is over.
    gone: Arc<Register<Facts>>,
    /// Which of them were there at the last attempt of an extension.
    attempted: AtomicU64,
}

#[derive(Clone)]
pub(crate) struct Token {
    is_issued: bool,
    /// How often it was changed.
    changes: u64,
    expires_at: SystemTime,
    /// How many values it has had before.
    value: usize,
    pub(crate) is_revoked: bool,
    /// How often it was introspected.
    pub(crate) introspections: usize,
    /// How often it got a longer life.
    pub(crate) extensions: u64,
}

impl Token {
    /// By which it is good.
    pub(crate) fn value(&self) -> &'static str {
        VALUES[self.value]
    }

    fn is_good(&self, value: &str) -> bool {
        self.is_issued && !self.is_revoked && value == self.value()
    }

    fn change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    /// What an update tells.
    fn updated(&self) -> Facts {
        Facts { updated: self.changes, extended: self.extensions, asked: 0 }
    }
}

impl Authlete {
    /// One of a token that lives for so long.
    pub(crate) fn new(expires_at: SystemTime, gone: Arc<Register<Facts>>) -> Self {
        let token = Token {
            is_issued: true,
            changes: 0,
            expires_at,
            value: 0,
            is_revoked: false,
            introspections: 0,
            extensions: 0,
        };
        let (fails, attempted) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { token: Register::new(token), fails, gone, attempted }
    }

    /// What has become of the token.
    pub(crate) fn token(&self) -> Token {
        self.token.change(|token| token.clone())
    }

    pub(crate) fn attempted(&self) -> u64 {
        self.attempted.load(Ordering::SeqCst)
    }

    /// Changes what only introspections tell.
    pub(crate) fn change(&self) -> u64 {
        self.token.change(Token::change)
    }

    /// The token does not exist yet.
    pub(crate) fn withdraw(&self) {
        self.token.change(|token| token.is_issued = false);
    }

    /// What the answer tells that issues the token.
    pub(crate) fn issue(&self) -> TokenInfo {
        self.token.change(|token| {
            token.is_issued = true;
            TokenInfo { facts: token.updated(), expires_at: token.expires_at, complete: false }
        })
    }

    pub(crate) fn introspect_now(&self, value: &str) -> Verdict {
        self.token.change(|token| {
            token.introspections += 1;
            let facts = Facts { asked: token.changes, ..token.updated() };
            let info = TokenInfo { facts, expires_at: token.expires_at, complete: true };
            token.is_good(value).then_some(info).ok_or(Rejection::Bad)
        })
    }

    /// Tells how many tokens that were.
    pub(crate) fn revoke_now(&self, value: &str) -> u64 {
        self.token.change(|token| {
            u64::from(token.is_good(value) && !replace(&mut token.is_revoked, true))
        })
    }

    fn update_now(&self, request: &TokenUpdateRequest) -> Result<TokenUpdateResponse, Error> {
        let TokenUpdateRequest { id, token: value, expires_at, .. } = request;
        if expires_at.is_some() && self.fails.swap(false, Ordering::SeqCst) {
            return Err(Error { is_retryable: true });
        }
        Ok(self.token.change(|token| {
            let named = id.as_deref() == Some(ID) && !token.is_revoked;
            let good = named || value.as_ref().is_some_and(|it| token.is_good(it.expose()));
            if !good {
                return TokenUpdateResponse::default();
            }
            match *expires_at {
                Some(expires_at) => {
                    token.extensions += 1;
                    token.expires_at = expires_at;
                }
                None => drop(token.change()),
            }
            token.value += usize::from(request.access_token_value_updated);
            TokenUpdateResponse {
                action: TokenUpdateAction::Ok,
                token_type: Some("Bearer"),
                token_id: Some(ID.into()),
                access_token: Some(token.value().into()),
                updated: token.updated(),
                expires_at: Some(token.expires_at),
                ..TokenUpdateResponse::default()
            }
        }))
    }
}

impl Remote for Authlete {
    fn introspect<'r>(&'r self, presented: &'r Presented, _: bool) -> Reply<'r, Verdict> {
        Box::pin(async { self.introspect_now(presented.token().expose()) })
    }

    /// An extension is attempted again if it failed.
    fn update<'r>(
        &'r self,
        request: &'r TokenUpdateRequest,
        attempts: Attempts<'r>,
    ) -> Reply<'r, Result<TokenUpdateResponse, Error>> {
        Box::pin(async move {
            let Attempts::Within(time) = attempts else { return self.update_now(request) };
            loop {
                self.attempted.store(self.gone.get().updated, Ordering::SeqCst);
                time()?;
                match self.update_now(request) {
                    Err(error) if error.is_retryable => {}
                    outcome => return outcome,
                }
            }
        })
    }

    fn revoke<'r>(&'r self, value: &'r Secret) -> Reply<'r, Result<u64, Error>> {
        Box::pin(async { Ok(self.revoke_now(value.expose())) })
    }

    fn availability(&self) -> Availability {
        Availability { is_down: false, breaker: BreakerState::Closed, credentials_refused: false }
    }
}
