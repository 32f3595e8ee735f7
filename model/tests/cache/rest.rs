//! As much of the rest of the crate as the sources need that are checked.

pub(crate) mod api {
    use std::{fmt, time::SystemTime};

    use loom::sync::atomic::{AtomicU64, Ordering};

    use crate::{rejection::Rejection, token::TokenInfo, verdict::Answer};

    /// How often a revoked token was changed.
    const REVOKED: u64 = 1 << 32;

    /// Counts how often its only token was changed, and how often it was asked for it.
    pub(crate) struct Authlete(AtomicU64, core::sync::atomic::AtomicU64);

    impl Authlete {
        pub(crate) fn new() -> Self {
            Self(AtomicU64::new(0), Default::default())
        }

        pub(crate) fn calls(&self) -> u64 {
            self.1.load(Ordering::SeqCst)
        }

        pub(crate) fn change(&self) -> u64 {
            self.0.fetch_add(1, Ordering::AcqRel) + 1
        }

        /// The newest.
        pub(crate) fn introspection(&self) -> Answer {
            self.1.fetch_add(1, Ordering::SeqCst);
            let said = self.0.fetch_add(0, Ordering::AcqRel);
            if said < REVOKED { Ok(TokenInfo { said }) } else { Err(Rejection::Bad) }
        }

        pub(crate) async fn token_revoke(&self, _: &TokenRevokeRequest) -> Result<(), Error> {
            self.0.fetch_add(REVOKED, Ordering::AcqRel);
            Ok(())
        }

        pub(crate) async fn token_update(
            &self,
            _: &TokenUpdateRequest,
        ) -> Result<TokenUpdateResponse, Error> {
            let said = self.change();
            let action =
                if said < REVOKED { TokenUpdateAction::Ok } else { TokenUpdateAction::NotFound };
            let token_type = Some("Bearer");
            Ok(TokenUpdateResponse {
                action,
                result_code: (),
                token_type,
                access_token: None,
                said,
            })
        }
    }

    #[derive(Debug)]
    pub(crate) struct Error;

    impl Error {
        pub(crate) fn not_made(_: &str, _: &str) -> Self {
            Self
        }
    }

    impl fmt::Display for Error {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it failed")
        }
    }

    impl std::error::Error for Error {}

    #[derive(Clone)]
    pub(crate) struct Secret;

    impl Secret {
        pub(crate) fn expose(&self) -> &str {
            "token"
        }
    }

    impl From<&str> for Secret {
        fn from(_: &str) -> Self {
            Self
        }
    }

    pub(crate) struct TokenRevokeRequest;

    impl TokenRevokeRequest {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn access_token_identifier(self, _: &Secret) -> Self {
            self
        }
    }

    pub(crate) struct TokenUpdateRequest {
        pub(crate) certificate_thumbprint: Option<()>,
        pub(crate) dpop_key_thumbprint: Option<()>,
        pub(crate) access_token_value_updated: bool,
    }

    impl TokenUpdateRequest {
        pub(crate) fn new() -> Self {
            Self {
                certificate_thumbprint: None,
                dpop_key_thumbprint: None,
                access_token_value_updated: false,
            }
        }

        pub(crate) fn access_token(self, _: &str) -> Self {
            self
        }

        pub(crate) fn access_token_expires_at(self, _: SystemTime) -> Self {
            self
        }
    }

    #[derive(Clone, Copy, PartialEq)]
    pub(crate) enum TokenUpdateAction {
        Ok,
        NotFound,
    }

    pub(crate) struct TokenUpdateResponse {
        pub(crate) action: TokenUpdateAction,
        pub(crate) result_code: (),
        pub(crate) token_type: Option<&'static str>,
        pub(crate) access_token: Option<Secret>,
        pub(crate) said: u64,
    }
}

pub(crate) mod clock {
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, SystemTime};

    pub(crate) fn millis(time: SystemTime) -> u64 {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
    }

    /// Not loom's: all agree on the time.
    pub(crate) struct Clock(SystemTime, AtomicU64);

    impl Clock {
        pub(crate) fn new(start: SystemTime) -> Self {
            Self(start, AtomicU64::new(0))
        }

        pub(crate) fn now(&self) -> SystemTime {
            self.0 + Duration::from_millis(self.1.load(Ordering::SeqCst))
        }

        pub(crate) fn advance(&self, by: Duration) {
            self.1.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }
}

pub(crate) mod refresh {
    use core::sync::atomic::{AtomicBool, Ordering};
    use std::time::SystemTime;

    use crate::{cache::Key, token::TokenInfo};

    pub(crate) struct Extender {
        waits: bool,
        done: AtomicBool,
    }

    impl Extender {
        pub(crate) fn new(waits: bool) -> Self {
            Self { waits, done: AtomicBool::new(false) }
        }

        pub(crate) fn waits(&self) -> bool {
            self.waits
        }

        pub(crate) fn seen(&self, _: &Key, _: SystemTime) {}

        pub(crate) fn wants(&self, _: &Key, _: &TokenInfo, now: SystemTime) -> Option<SystemTime> {
            (!self.done.swap(true, Ordering::SeqCst)).then_some(now)
        }

        pub(crate) fn leave(&self, _: Key, _: SystemTime) -> Option<()> {
            Some(())
        }
    }
}

pub(crate) mod rejection {
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(crate) enum Rejection {
        /// Nothing is known.
        Unknown,
        /// The token was revoked.
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

/// Calls that are made once.
pub(crate) mod resilience {
    use crate::api::Error;

    pub(crate) enum Again {
        Can,
    }

    /// Time does not pass by itself.
    pub(crate) struct Deadline;

    impl Deadline {
        pub(crate) async fn wait<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
            Some(waiting.await)
        }
    }

    pub(crate) struct Caller;

    impl Caller {
        pub(crate) fn deadline(&self) -> Deadline {
            Deadline
        }

        pub(crate) fn deadline_of_extension(&self) -> Deadline {
            Deadline
        }

        pub(crate) async fn call<T, F: Future<Output = Result<T, Error>>>(
            &self,
            _: &str,
            _: Again,
            attempt: impl Fn() -> F,
        ) -> Result<T, Error> {
            attempt().await
        }
    }
}

/// Tokens whose values stay the same.
pub(crate) mod rotate {
    use crate::{api::Secret, cache::Key};

    pub(crate) struct Rotator;

    pub(crate) struct Halt<'r>(core::marker::PhantomData<&'r ()>);

    impl Rotator {
        pub(crate) fn end_overlap(&self, _: &Key) -> Option<Key> {
            None
        }

        pub(crate) fn end_all_overlaps(&self) {}

        pub(crate) async fn halt(
            &self,
            _: Key,
            _: std::time::SystemTime,
        ) -> (Halt<'_>, Option<Secret>) {
            (Halt(core::marker::PhantomData), None)
        }
    }
}

pub(crate) mod token {
    use crate::{
        api::{TokenUpdateRequest, TokenUpdateResponse},
        cache::Thumbprint,
        rejection::Guard,
    };

    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(crate) struct TokenInfo {
        /// After how many changes.
        pub(crate) said: u64,
    }

    impl TokenInfo {
        pub(crate) fn is_past(&self, _: u64) -> bool {
            false
        }

        pub(crate) fn is_complete(&self) -> bool {
            true
        }

        pub(crate) fn stale(self, _: u64) -> Self {
            self
        }

        pub(crate) fn apart(&self) -> Self {
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
            Some(Self { said: response.said })
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

    pub(crate) type Answer = Result<TokenInfo, Rejection>;

    pub(crate) fn unknown() -> Rejection {
        Rejection::Unknown
    }

    pub(crate) fn is_one(answer: &Answer) -> bool {
        *answer != Err(Rejection::Unknown)
    }

    pub(crate) fn is_gone(response: &TokenUpdateResponse) -> bool {
        response.action == TokenUpdateAction::NotFound
    }
}

pub(crate) mod observe {
    /// Nothing is logged.
    macro_rules! limited {
        ($($line:tt)*) => {
            ()
        };
    }
    pub(crate) use limited;
}
