//! What the emulator can be told to do wrong, and the APIs it can be told so about.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};

/// An API of Authlete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Api {
    /// `/auth/introspection`
    Introspection,
    /// `/auth/token`
    Token,
    /// `/auth/token/issue`
    TokenIssue,
    /// `/auth/token/fail`
    TokenFail,
    /// `/auth/token/create`
    TokenCreate,
    /// `/auth/token/update`
    TokenUpdate,
    /// `/auth/token/revoke`
    TokenRevoke,
    /// `/auth/token/delete`
    TokenDelete,
    /// `/auth/token/get/list`
    TokenList,
    /// `/auth/revocation`
    Revocation,
}

impl Api {
    pub(super) const ALL: [Self; 10] = [
        Self::Introspection,
        Self::Token,
        Self::TokenIssue,
        Self::TokenFail,
        Self::TokenCreate,
        Self::TokenUpdate,
        Self::TokenRevoke,
        Self::TokenDelete,
        Self::TokenList,
        Self::Revocation,
    ];

    /// The path below `/api` or `/api/{serviceId}`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Introspection => "/auth/introspection",
            Self::Token => "/auth/token",
            Self::TokenIssue => "/auth/token/issue",
            Self::TokenFail => "/auth/token/fail",
            Self::TokenCreate => "/auth/token/create",
            Self::TokenUpdate => "/auth/token/update",
            Self::TokenRevoke => "/auth/token/revoke",
            Self::TokenDelete => "/auth/token/delete",
            Self::TokenList => "/auth/token/get/list",
            Self::Revocation => "/auth/revocation",
        }
    }
}

/// Something that goes wrong: on every call of every API, until
/// [`clear_faults`](super::Emulator::clear_faults), unless it is limited.
///
/// ```
/// use tower_authlete::emulator::{Api, Fault};
///
/// let fault = Fault::status(503).retry_after(7).on(Api::Introspection).times(2);
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    pub(super) effect: Effect,
    pub(super) api: Option<Api>,
    pub(super) times: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) enum Effect {
    Answer { status: StatusCode, headers: HeaderMap, body: Bytes },
    Truncated,
    Hang,
    Reset,
    Delay(Duration),
}

impl Fault {
    fn new(effect: Effect) -> Self {
        Self { effect, api: None, times: None }
    }

    fn answer(status: StatusCode, body: Bytes) -> Self {
        Self::new(Effect::Answer { status, headers: HeaderMap::new(), body })
    }

    /// The call is refused with this status, and Authlete's kind of body.
    ///
    /// # Panics
    /// If it is no HTTP status.
    #[must_use]
    #[track_caller]
    pub fn status(status: u16) -> Self {
        let Ok(status) = StatusCode::from_u16(status) else { panic!("{status} is no HTTP status") };
        let body = r#"{"resultCode":"A001101","resultMessage":"[A001101] a fault was injected"}"#;
        Self::answer(status, body.into())
    }

    /// The call is answered with 200 and this body.
    #[must_use]
    pub fn body(body: impl Into<Bytes>) -> Self {
        Self::answer(StatusCode::OK, body.into())
    }

    /// The call is answered with 200 and this JSON.
    #[must_use]
    pub fn json(value: serde_json::Value) -> Self {
        Self::body(value.to_string())
    }

    /// The call takes effect, and its answer breaks off in its middle.
    #[must_use]
    pub fn truncated() -> Self {
        Self::new(Effect::Truncated)
    }

    /// The call takes effect, and is never answered.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Effect::Hang)
    }

    /// The call takes effect, and the connection is reset in place of the answer.
    #[must_use]
    pub fn reset() -> Self {
        Self::new(Effect::Reset)
    }

    /// The answer takes this much longer.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::new(Effect::Delay(delay))
    }

    /// Gives the answer of [`status`](Self::status) another body.
    #[must_use]
    pub fn with_body(mut self, text: impl Into<Bytes>) -> Self {
        if let Effect::Answer { body, .. } = &mut self.effect {
            *body = text.into();
        }
        self
    }

    /// Adds a header to the answer of [`status`](Self::status), [`body`](Self::body) or
    /// [`json`](Self::json).
    ///
    /// # Panics
    /// If it is no HTTP header.
    #[must_use]
    #[track_caller]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        let (Ok(header), Ok(content)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            panic!("{name:?}: {value:?} is no HTTP header");
        };
        if let Effect::Answer { headers, .. } = &mut self.effect {
            headers.append(header, content);
        }
        self
    }

    /// Adds `Retry-After` to the answer of [`status`](Self::status): seconds, a duration, or any text,
    /// such as a date.
    ///
    /// # Panics
    /// If it is a text that no HTTP header can hold.
    #[must_use]
    #[track_caller]
    pub fn retry_after(self, after: impl Into<RetryAfter>) -> Self {
        self.header(RETRY_AFTER, after.into().0)
    }

    /// Only calls of this API.
    #[must_use]
    pub fn on(self, api: Api) -> Self {
        Self { api: Some(api), ..self }
    }

    /// Only the next calls.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }
}

/// When to come again; see [`Fault::retry_after`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryAfter(String);

impl From<u64> for RetryAfter {
    fn from(seconds: u64) -> Self {
        Self(seconds.to_string())
    }
}

impl From<Duration> for RetryAfter {
    fn from(duration: Duration) -> Self {
        duration.as_secs().into()
    }
}

impl From<&str> for RetryAfter {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The faults in force.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The oldest fault that applies, which is thereby used once.
    pub(super) fn strike(&mut self, api: Api) -> Option<Effect> {
        self.0.retain(|fault| fault.times != Some(0));
        let fits = |fault: &&mut Fault| fault.api.is_none_or(|only| only == api);
        let fault = self.0.iter_mut().find(fits)?;
        fault.times = fault.times.map(|times| times - 1);
        Some(fault.effect.clone())
    }
}
