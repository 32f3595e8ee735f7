//! As much of the rest of the crate as the explored sources use.

pub(crate) mod api {
    use std::{fmt, time::SystemTime};

    use crate::token::Facts;

    /// Of settings, which are right.
    pub(crate) struct Problems;

    impl Problems {
        pub(crate) fn add(&mut self, _: &str, _: impl Into<String>, _: &str) {}
    }

    /// Why a call failed: it was not sent.
    #[derive(Debug)]
    pub(crate) struct Error {
        pub(crate) is_retryable: bool,
    }

    impl Error {
        pub(crate) fn not_made(_: &str, _: &str) -> Self {
            Self { is_retryable: false }
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
            f.write_str("it was not sent")
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

    #[derive(Clone)]
    pub(crate) struct IntrospectionRequest {
        pub(crate) dpop: Option<()>,
    }

    impl IntrospectionRequest {
        pub(crate) fn new() -> Self {
            Self { dpop: None }
        }

        pub(crate) fn token(self, _: &Secret) -> Self {
            self
        }
    }

    #[derive(Default)]
    pub(crate) struct TokenUpdateRequest {
        pub(crate) certificate_thumbprint: Option<()>,
        pub(crate) dpop_key_thumbprint: Option<()>,
        pub(crate) access_token_value_updated: bool,
        pub(crate) id: Option<String>,
        pub(crate) token: Option<Secret>,
        pub(crate) expires_at: Option<SystemTime>,
    }

    impl TokenUpdateRequest {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn access_token(self, value: impl Into<Secret>) -> Self {
            Self { token: Some(value.into()), ..self }
        }

        pub(crate) fn token_id(self, id: &str) -> Self {
            Self { id: Some(id.into()), ..self }
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
    use std::time::Duration;

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(crate) enum Rejection {
        /// Nothing is known.
        Unknown,
        /// The token was revoked, has another value, or is not issued yet.
        Bad,
    }

    #[derive(PartialEq)]
    pub(crate) enum Reason {
        Unavailable,
        InvalidToken,
    }

    impl Rejection {
        pub(crate) fn invalid_token(_: &str) -> Self {
            Self::Bad
        }

        pub(crate) fn foreign_token() -> Self {
            Self::Bad
        }

        pub(crate) fn unavailable(_: Duration) -> Self {
            Self::Unknown
        }

        pub(crate) fn overloaded(_: Duration) -> Self {
            Self::Unknown
        }

        pub(crate) fn misconfigured(_: &str) -> Self {
            Self::Unknown
        }

        pub(crate) fn reason(&self) -> Reason {
            match self {
                Self::Unknown => Reason::Unavailable,
                Self::Bad => Reason::InvalidToken,
            }
        }

        pub(crate) fn is_verdict(&self) -> bool {
            *self == Self::Bad
        }

        pub(crate) fn is_of_proof(&self) -> bool {
            false
        }

        pub(crate) fn is_overload(&self) -> bool {
            false
        }
    }

    #[derive(Clone)]
    pub(crate) struct Refuser;
}

pub(crate) mod resilience {
    use std::{pin::pin, time::Duration};

    use crate::at_once;

    #[derive(PartialEq)]
    pub(crate) enum BreakerState {
        Closed,
        Open,
    }

    pub(crate) struct Availability {
        pub(crate) is_down: bool,
        pub(crate) breaker: BreakerState,
        pub(crate) credentials_refused: bool,
    }

    impl Availability {
        pub(crate) fn answers(&self) -> bool {
            !self.is_down
        }
    }

    /// Time does not pass by itself: it elapses at once or never.
    #[derive(Default)]
    pub(crate) struct Deadline {
        is_past: bool,
        waited: Option<Box<dyn Fn() + Send + Sync>>,
    }

    impl Deadline {
        pub(crate) fn after(time: Duration) -> Self {
            Self { is_past: time.is_zero(), ..Self::default() }
        }

        /// Tells when somebody has waited.
        pub(crate) fn watched(waited: impl Fn() + Send + Sync + 'static) -> Self {
            Self { is_past: false, waited: Some(Box::new(waited)) }
        }

        pub(crate) async fn wait<T>(&self, outcome: impl Future<Output = T>) -> Option<T> {
            if self.is_past {
                return at_once(pin!(outcome));
            }
            let outcome = outcome.await;
            self.waited.iter().for_each(|tell| tell());
            Some(outcome)
        }
    }
}

pub(crate) mod precheck {
    use std::time::SystemTime;

    /// There is none.
    pub(crate) enum Precheck {}

    impl Precheck {
        pub(crate) fn fits_closely(&self, _: &str, _: Option<SystemTime>) -> bool {
            match *self {}
        }
    }
}

pub(crate) mod proof {
    use crate::{clock::Clock, observe::LogLimit, rejection::Rejection};

    pub(crate) struct Proof {
        pub(crate) nonce: Option<()>,
    }

    #[derive(Default)]
    pub(crate) struct Settings {
        pub(crate) verify_remotely: bool,
    }

    /// Takes all proofs.
    pub(crate) struct Prover {
        pub(crate) settings: Settings,
        /// What happens while a proof is used up.
        pub(crate) meanwhile: Box<dyn Fn() + Send + Sync>,
    }

    impl Prover {
        pub(crate) fn has_nonces(&self) -> bool {
            false
        }

        pub(crate) async fn use_up(
            &self,
            _: &Proof,
            _: &Clock,
            _: &LogLimit,
        ) -> Result<(), Rejection> {
            (self.meanwhile)();
            Ok(())
        }
    }
}

pub(crate) mod token {
    use std::time::{Duration, SystemTime};

    use crate::{
        api::{TokenUpdateRequest, TokenUpdateResponse},
        clock::millis,
        rejection::Refuser,
        store::{Key, Thumbprint},
    };

    /// From after how many changes and extensions of the token they are.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
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

    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(crate) struct TokenInfo {
        pub(crate) facts: Facts,
        pub(crate) expires_at: SystemTime,
        pub(crate) complete: bool,
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
            self.complete
        }

        pub(crate) fn stale(self, _: u64) -> Self {
            self
        }

        pub(crate) fn is_stale_beyond(&self, _: Duration, _: u64) -> bool {
            false
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

        pub(crate) fn guarded(self, _: &std::sync::Arc<Refuser>, _: &Key) -> Self {
            self
        }

        pub(crate) fn updated(
            &self,
            _: &TokenUpdateRequest,
            response: &TokenUpdateResponse,
        ) -> Option<Self> {
            let facts = Facts { asked: self.facts.asked, ..response.updated };
            Some(Self { facts, expires_at: response.expires_at?, ..*self })
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
