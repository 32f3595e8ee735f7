//! Fault injection.

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

/// A fault to inject with [`Emulator::fault`](super::Emulator::fault). It applies to all calls until
/// [`clear_faults`](super::Emulator::clear_faults), unless it is limited by [`on`](Self::on) or
/// [`times`](Self::times).
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
    Respond { status: StatusCode, headers: HeaderMap, body: Bytes },
    Truncated,
    Hang,
    Reset,
    Delay(Duration),
}

impl Fault {
    fn new(effect: Effect) -> Self {
        Self { effect, api: None, times: None }
    }

    fn respond(status: StatusCode, body: Bytes) -> Self {
        Self::new(Effect::Respond { status, headers: HeaderMap::new(), body })
    }

    /// The response has this status, and a body like Authlete's errors. The call has no effect.
    ///
    /// # Panics
    /// If `status` is not an HTTP status (100 to 999).
    #[must_use]
    #[track_caller]
    pub fn status(status: u16) -> Self {
        let Ok(status) = StatusCode::from_u16(status) else { panic!("{status} is no HTTP status") };
        let body = r#"{"resultCode":"A001101","resultMessage":"[A001101] a fault was injected"}"#;
        Self::respond(status, body.into())
    }

    /// The response is 200 with this body. The call has no effect.
    #[must_use]
    pub fn body(body: impl Into<Bytes>) -> Self {
        Self::respond(StatusCode::OK, body.into())
    }

    /// The response is 200 with this JSON. The call has no effect.
    #[must_use]
    pub fn json(value: serde_json::Value) -> Self {
        Self::body(value.to_string())
    }

    /// The call takes effect, and the body of the response ends early.
    #[must_use]
    pub fn truncated() -> Self {
        Self::new(Effect::Truncated)
    }

    /// The call takes effect, and there is no response.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Effect::Hang)
    }

    /// The call takes effect, and the connection is reset instead of a response.
    #[must_use]
    pub fn reset() -> Self {
        Self::new(Effect::Reset)
    }

    /// The call is processed after this delay.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self::new(Effect::Delay(delay))
    }

    /// Replaces the body of [`status`](Self::status), [`body`](Self::body) or [`json`](Self::json). No effect on
    /// other faults.
    #[must_use]
    pub fn with_body(mut self, text: impl Into<Bytes>) -> Self {
        if let Effect::Respond { body, .. } = &mut self.effect {
            *body = text.into();
        }
        self
    }

    /// Adds a header to the response of [`status`](Self::status), [`body`](Self::body) or
    /// [`json`](Self::json). No effect on other faults.
    ///
    /// # Panics
    /// If `name` or `value` is illegal in HTTP.
    #[must_use]
    #[track_caller]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        let (Ok(header), Ok(content)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            panic!("{name:?}: {value:?} is no HTTP header");
        };
        if let Effect::Respond { headers, .. } = &mut self.effect {
            headers.append(header, content);
        }
        self
    }

    /// Adds `Retry-After` to the response of [`status`](Self::status), [`body`](Self::body) or
    /// [`json`](Self::json): seconds, a duration (whole seconds), or any text, such as a date.
    ///
    /// # Panics
    /// If the text is illegal in an HTTP header.
    #[must_use]
    #[track_caller]
    pub fn retry_after(self, after: impl Into<RetryAfter>) -> Self {
        self.header(RETRY_AFTER, after.into().0)
    }

    /// Limits the fault to calls of this API. Default: all APIs.
    #[must_use]
    pub fn on(self, api: Api) -> Self {
        Self { api: Some(api), ..self }
    }

    /// Limits the fault to this number of calls. Default: no limit.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }
}

/// The value of `Retry-After`; see [`Fault::retry_after`].
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

/// The injected faults, in order of injection.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The effect of the oldest fault that applies, which counts as one of its calls.
    pub(super) fn take(&mut self, api: Api) -> Option<Effect> {
        self.0.retain(|fault| fault.times != Some(0));
        let fits = |fault: &&mut Fault| fault.api.is_none_or(|only| only == api);
        let fault = self.0.iter_mut().find(fits)?;
        fault.times = fault.times.map(|times| times - 1);
        Some(fault.effect.clone())
    }
}
