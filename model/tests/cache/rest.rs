//! As much of the rest of the crate as the sources need that are checked.

pub(crate) mod api {
    use core::{
        mem::replace,
        sync::atomic::{AtomicBool, Ordering},
    };
    use std::{fmt, time::SystemTime};

    use tower_authlete_model::Register;

    use crate::{
        TOKEN,
        rejection::Rejection,
        token::{Facts, TokenInfo},
        verdict::Verdict,
    };

    /// Knows nothing but one token. What it is asked takes effect at once.
    pub(crate) struct Authlete {
        token: Register<Token>,
        /// Whether the next extension gets no answer, and is not made.
        pub(crate) fails: AtomicBool,
    }

    #[derive(Clone)]
    pub(crate) struct Token {
        /// How often it was changed.
        changes: u64,
        expires_at: SystemTime,
        /// How many values it has had before.
        value: usize,
        pub(crate) revoked: bool,
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
            !self.revoked && value == self.value()
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

    /// Which a token has one after the other.
    pub(crate) const VALUES: [&str; 3] = [TOKEN, "second", "third"];

    /// By what it names the token whatever its value.
    const ID: &str = "id";

    impl Authlete {
        /// One of a token that lives for so long.
        pub(crate) fn new(expires_at: SystemTime) -> Self {
            let token = Token {
                changes: 0,
                expires_at,
                value: 0,
                revoked: false,
                introspections: 0,
                extensions: 0,
            };
            Self { token: Register::new(token), fails: AtomicBool::new(false) }
        }

        /// What has become of the token.
        pub(crate) fn token(&self) -> Token {
            self.token.change(|token| token.clone())
        }

        /// Changes what only introspections tell.
        pub(crate) fn change(&self) -> u64 {
            self.token.change(Token::change)
        }

        pub(crate) fn introspection(&self, value: &str) -> Verdict {
            self.token.change(|token| {
                token.introspections += 1;
                let facts = Facts { asked: token.changes, ..token.updated() };
                let info = TokenInfo { facts, expires_at: token.expires_at };
                token.is_good(value).then_some(info).ok_or(Rejection::Bad)
            })
        }

        pub(crate) async fn token_revoke(
            &self,
            request: &TokenRevokeRequest,
        ) -> Result<TokenRevokeResponse, Error> {
            let Secret(value) = &request.0;
            let ends =
                |token: &mut Token| token.is_good(value) && !replace(&mut token.revoked, true);
            Ok(TokenRevokeResponse { count: Some(i64::from(self.token.change(ends))) })
        }

        pub(crate) async fn token_update(
            &self,
            request: &TokenUpdateRequest,
        ) -> Result<TokenUpdateResponse, Error> {
            let TokenUpdateRequest { token_id, access_token, expires_at, .. } = request;
            if expires_at.is_some() && self.fails.swap(false, Ordering::SeqCst) {
                return Err(Error { again: true });
            }
            Ok(self.token.change(|token| {
                let named = token_id.as_deref() == Some(ID) && !token.revoked;
                let good = named || access_token.as_ref().is_some_and(|it| token.is_good(&it.0));
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

    /// Of settings that are wrong.
    #[derive(Debug)]
    pub(crate) struct ConfigError;

    impl ConfigError {
        pub(crate) fn new(_: &str, _: impl Into<String>, _: &str) -> Self {
            Self
        }
    }

    #[derive(Debug)]
    pub(crate) struct Error {
        pub(crate) again: bool,
    }

    impl Error {
        pub(crate) fn not_made(_: &str, _: &str) -> Self {
            Self { again: false }
        }

        pub(crate) fn deadline(_: &str, _: std::time::Duration) -> Self {
            unreachable!()
        }

        pub(crate) fn is_unsent(&self) -> bool {
            true
        }

        pub(crate) fn is_turned_away(&self) -> bool {
            false
        }
    }

    impl fmt::Display for Error {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it failed")
        }
    }

    impl std::error::Error for Error {}

    #[derive(Clone)]
    pub(crate) struct Secret(String);

    impl Secret {
        pub(crate) fn expose(&self) -> &str {
            &self.0
        }
    }

    impl From<&str> for Secret {
        fn from(text: &str) -> Self {
            Self(text.into())
        }
    }

    impl From<&Self> for Secret {
        fn from(secret: &Self) -> Self {
            secret.clone()
        }
    }

    pub(crate) struct TokenRevokeRequest(Secret);

    impl TokenRevokeRequest {
        pub(crate) fn new() -> Self {
            Self("".into())
        }

        pub(crate) fn access_token_identifier(self, value: impl Into<Secret>) -> Self {
            Self(value.into())
        }
    }

    pub(crate) struct TokenRevokeResponse {
        pub(crate) count: Option<i64>,
    }

    #[derive(Default)]
    pub(crate) struct TokenUpdateRequest {
        pub(crate) certificate_thumbprint: Option<()>,
        pub(crate) dpop_key_thumbprint: Option<()>,
        pub(crate) access_token_value_updated: bool,
        token_id: Option<String>,
        access_token: Option<Secret>,
        expires_at: Option<SystemTime>,
    }

    impl TokenUpdateRequest {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn access_token(self, value: impl Into<Secret>) -> Self {
            Self { access_token: Some(value.into()), ..self }
        }

        pub(crate) fn token_id(self, id: &str) -> Self {
            Self { token_id: Some(id.into()), ..self }
        }

        pub(crate) fn access_token_expires_at(self, at: SystemTime) -> Self {
            Self { expires_at: Some(at), ..self }
        }

        pub(crate) fn access_token_value_updated(self, updated: bool) -> Self {
            Self { access_token_value_updated: updated, ..self }
        }
    }

    #[derive(Clone, Copy, Default, PartialEq)]
    pub(crate) enum TokenUpdateAction {
        Ok,
        #[default]
        NotFound,
    }

    #[derive(Default)]
    pub(crate) struct TokenUpdateResponse {
        pub(crate) action: TokenUpdateAction,
        pub(crate) result_code: (),
        pub(crate) token_type: Option<&'static str>,
        pub(crate) token_id: Option<String>,
        pub(crate) access_token: Option<Secret>,
        pub(crate) updated: Facts,
        pub(crate) expires_at: Option<SystemTime>,
    }
}

pub(crate) mod rejection {
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(crate) enum Rejection {
        /// Nothing is known.
        Unknown,
        /// The token was revoked, or has another value.
        Bad,
    }

    impl Rejection {
        pub(crate) fn invalid_token(_: &str) -> Self {
            Self::Bad
        }

        pub(crate) fn is_of_proof(&self) -> bool {
            false
        }
    }

    pub(crate) struct Guard;
}

pub(crate) mod resilience {
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::{pin::pin, sync::Arc};

    use tower_authlete_model::Register;

    use crate::{api::Error, at_once, token::Facts};

    pub(crate) enum RetryMode {
        Always,
    }

    /// Time does not pass by itself.
    #[derive(Default)]
    pub(crate) struct Deadline {
        is_over: bool,
        then: Option<Box<dyn Fn()>>,
    }

    impl Deadline {
        /// Does something when somebody has waited.
        pub(crate) fn then(run: impl Fn() + 'static) -> Self {
            Self { is_over: false, then: Some(Box::new(run)) }
        }

        pub(crate) async fn wait<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
            if self.is_over {
                return at_once(pin!(waiting));
            }
            let told = waiting.await;
            self.then.iter().for_each(|run| run());
            Some(told)
        }
    }

    pub(crate) struct ResilientClient {
        /// Whether nobody waits.
        pub(crate) impatient: bool,
        gone: Arc<Register<Facts>>,
        attempted: AtomicU64,
    }

    impl ResilientClient {
        pub(crate) fn new(gone: Arc<Register<Facts>>) -> Self {
            Self { impatient: false, gone, attempted: AtomicU64::new(0) }
        }

        pub(crate) fn deadline(&self) -> Deadline {
            Deadline { is_over: self.impatient, then: None }
        }

        /// What changes were done when a call was made last.
        pub(crate) fn attempted(&self) -> u64 {
            self.attempted.load(Ordering::SeqCst)
        }

        /// Makes it again if it failed.
        pub(crate) async fn call<T, F: Future<Output = Result<T, Error>>>(
            &self,
            _: &str,
            _: RetryMode,
            attempt: impl Fn() -> F,
        ) -> Result<T, Error> {
            loop {
                self.attempted.store(self.gone.get().updated, Ordering::SeqCst);
                match attempt().await {
                    Err(error) if error.again => {}
                    result => return result,
                }
            }
        }
    }
}

pub(crate) mod token {
    use std::time::{Duration, SystemTime};

    use crate::{
        api::{TokenUpdateRequest, TokenUpdateResponse},
        cache::{Key, Thumbprint},
        clock::millis,
        rejection::Guard,
    };

    /// From after how many changes and extensions of the token they are.
    #[derive(Debug, Clone, Copy, Default, PartialEq)]
    pub(crate) struct Facts {
        /// Those that updates tell.
        pub(crate) updated: u64,
        /// Those that only introspections tell.
        pub(crate) asked: u64,
        /// How long the token lives.
        pub(crate) extended: u64,
    }

    impl Facts {
        /// From after the end.
        pub(crate) const END: Self =
            Self { updated: u64::MAX, asked: u64::MAX, extended: u64::MAX };

        pub(crate) fn are_after(self, other: Self) -> bool {
            let Self { updated, asked, extended } = other;
            self.updated >= updated && self.asked >= asked && self.extended >= extended
        }

        pub(crate) fn raise(&mut self, to: Self) {
            self.updated = self.updated.max(to.updated);
            self.asked = self.asked.max(to.asked);
            self.extended = self.extended.max(to.extended);
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(crate) struct TokenInfo {
        pub(crate) facts: Facts,
        pub(crate) expires_at: SystemTime,
    }

    impl TokenInfo {
        pub(crate) fn is_past(&self, now: u64) -> bool {
            millis(self.expires_at) <= now
        }

        pub(crate) fn expires_at(&self) -> Option<SystemTime> {
            Some(self.expires_at)
        }

        pub(crate) fn auth_age(&self, _: SystemTime) -> Option<Duration> {
            None
        }

        pub(crate) fn is_complete(&self) -> bool {
            true
        }

        pub(crate) fn stale(self, _: u64) -> Self {
            self
        }

        pub(crate) fn deep_clone(&self) -> Self {
            *self
        }

        pub(crate) fn is_bound_to(&self, _: Option<&Thumbprint>) -> bool {
            true
        }

        pub(crate) fn size(&self) -> usize {
            1
        }

        pub(crate) fn interned(self, _: &Interner) -> Self {
            self
        }

        pub(crate) fn guarded(self, _: &Guard, _: &Key) -> Self {
            self
        }

        pub(crate) fn updated(
            &self,
            _: &TokenUpdateRequest,
            response: &TokenUpdateResponse,
        ) -> Option<Self> {
            let facts = Facts { asked: self.facts.asked, ..response.updated };
            Some(Self { facts, expires_at: response.expires_at? })
        }
    }

    pub(crate) struct Interner;

    impl Interner {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn clear(&self) {}
    }
}

pub(crate) mod verdict {
    use crate::{
        api::{TokenUpdateAction, TokenUpdateResponse},
        rejection::Rejection,
        token::TokenInfo,
    };

    pub(crate) type Verdict = Result<TokenInfo, Rejection>;

    pub(crate) fn unknown() -> Rejection {
        Rejection::Unknown
    }

    pub(crate) fn not_found() -> Rejection {
        Rejection::Bad
    }

    pub(crate) fn is_one(answer: &Verdict) -> bool {
        *answer != Err(Rejection::Unknown)
    }

    pub(crate) fn is_gone(response: &TokenUpdateResponse) -> bool {
        response.action == TokenUpdateAction::NotFound
    }
}
