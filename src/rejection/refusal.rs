//! A refusal, and the head of its response.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use percent_encoding::utf8_percent_encode;

use super::{
    challenge::{Challenge, Challenges},
    grpc::{GRPC_MESSAGE, GRPC_MESSAGE_NAME, GRPC_STATUS, Protocol},
    reason::Reason,
};
use crate::{credentials::Scheme, observe::counters};

/// The refusal of a request. It holds no secret of the request. Cloning is cheap.
#[derive(Clone)]
pub struct Rejection(Arc<Parts>);

#[derive(Clone)]
struct Parts {
    reason: Reason,
    description: Cow<'static, str>,
    scope: Option<String>,
    acr_values: Option<String>,
    max_age: Option<Duration>,
    retry_after: Option<Duration>,
    /// Whether a limit of this process is the cause, rather than Authlete.
    overload: bool,
    /// The challenge of Authlete's answer, if it is legal.
    authlete: Option<Challenge>,
}

impl Rejection {
    fn new(reason: Reason, description: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Parts {
            reason,
            description: description.into(),
            scope: None,
            acr_values: None,
            max_age: None,
            retry_after: None,
            overload: false,
            authlete: None,
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn no_credentials() -> Self {
        Self::new(Reason::NoCredentials, "an access token is required")
    }

    pub(crate) fn invalid_request(description: &'static str) -> Self {
        Self::new(Reason::InvalidRequest, description)
    }

    #[cfg(feature = "dpop")]
    pub(crate) fn invalid_dpop_proof(description: &'static str) -> Self {
        Self::new(Reason::InvalidDpopProof, description)
    }

    #[cfg(feature = "dpop")]
    pub(crate) fn use_dpop_nonce() -> Self {
        Self::new(Reason::UseDpopNonce, "the DPoP proof has to hold the nonce of DPoP-Nonce")
    }

    /// For a token that the service cannot have issued.
    pub(crate) fn foreign_token() -> Self {
        Self::invalid_token("the access token is none of this service")
    }

    pub(crate) fn invalid_token(description: &'static str) -> Self {
        Self::new(Reason::InvalidToken, description)
    }

    /// `scope`: the scopes that the request requires (RFC 6750 §3), if scopes are missing.
    pub(crate) fn insufficient_scope(description: &'static str, scope: Option<String>) -> Self {
        Self::new(Reason::InsufficientScope, description).with(|parts| parts.scope = scope)
    }

    pub(crate) fn insufficient_user_authentication(
        acr_values: Option<String>,
        max_age: Option<Duration>,
    ) -> Self {
        let description = "the user has to be authenticated more strongly or more recently";
        Self::new(Reason::InsufficientUserAuthentication, description).with(|parts| {
            parts.acr_values = acr_values;
            parts.max_age = max_age;
        })
    }

    pub(crate) fn unavailable(retry_after: Duration) -> Self {
        Self::new(Reason::Unavailable, "the access token cannot be checked at the moment")
            .with(|parts| parts.retry_after = Some(retry_after))
    }

    /// For a limit of this process that is reached.
    pub(crate) fn overloaded(retry_after: Duration) -> Self {
        Self::unavailable(retry_after).with(|parts| parts.overload = true)
    }

    pub(crate) fn is_overload(&self) -> bool {
        self.0.overload
    }

    pub(crate) fn misconfigured(description: &'static str) -> Self {
        Self::new(Reason::Misconfigured, description)
    }

    /// Whether it is a statement about the token, rather than about the proof, this server or Authlete.
    pub(crate) fn is_verdict(&self) -> bool {
        self.is_of_client() && !self.is_of_proof()
    }

    /// Whether the client is the cause, rather than this server or Authlete.
    pub(crate) fn is_of_client(&self) -> bool {
        !matches!(self.reason(), Reason::Unavailable | Reason::Misconfigured)
    }

    /// Whether only the proof is the cause, so that the token may be accepted with another one.
    pub(crate) fn is_of_proof(&self) -> bool {
        matches!(self.reason(), Reason::InvalidDpopProof | Reason::UseDpopNonce)
    }

    /// With the challenge of Authlete's answer, if it is legal.
    pub(crate) fn with_authlete_challenge(self, content: Option<&str>) -> Self {
        let challenge = content.and_then(Challenge::parse);
        self.with(|parts| parts.authlete = challenge)
    }

    /// With the reason of Authlete's challenge, if that concerns the proof or the user's authentication.
    pub(crate) fn of_its_challenge(self) -> Self {
        let reason = match self.error() {
            Some("invalid_dpop_proof") => Reason::InvalidDpopProof,
            Some("use_dpop_nonce") => Reason::UseDpopNonce,
            Some("insufficient_user_authentication") => Reason::InsufficientUserAuthentication,
            _ => return self,
        };
        self.with(|parts| parts.reason = reason)
    }

    /// Logs and counts that a request is refused.
    pub(crate) fn note(&self) {
        tracing::debug!(reason = ?self.reason(), "request refused");
        counters::refused(self.reason().name());
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.reason.status()
    }

    /// The code of the challenge's `error`, if there is one.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        let written = self.0.authlete.as_ref().and_then(|challenge| challenge.get("error"));
        written.or(self.0.reason.error())
    }

    /// A description for people. In the challenge, characters that RFC 6750 §3 forbids are replaced: `"`
    /// by `'`, and `\` and all that is not visible ASCII by `?`.
    #[must_use]
    pub fn description(&self) -> &str {
        let written =
            self.0.authlete.as_ref().and_then(|challenge| challenge.get("error_description"));
        written.unwrap_or(&self.0.description)
    }

    /// The scopes that the request requires, separated by spaces, if scopes are missing.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }

    /// The authentication context classes of which one is required, separated by spaces (RFC 9470 §3).
    #[must_use]
    pub fn acr_values(&self) -> Option<&str> {
        self.0.acr_values.as_deref()
    }

    /// How long ago the user may have been authenticated (RFC 9470 §3).
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        self.0.max_age
    }

    /// After which time the client may retry.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The challenge of Authlete's answer, or else one of the parts above.
    fn challenge(&self) -> Challenge {
        let parts = &*self.0;
        match &parts.authlete {
            Some(challenge) => challenge.clone(),
            None => Challenge::default()
                .param("error", parts.reason.error())
                .param("error_description", parts.reason.error().map(|_| parts.description.clone()))
                .param("scope", parts.scope.clone())
                .param("acr_values", parts.acr_values.clone())
                .param("max_age", parts.max_age.map(|age| age.as_secs().to_string())),
        }
    }

    /// The response without its body. For gRPC, it is a trailers-only response.
    pub(crate) fn head(
        &self,
        protocol: &Protocol,
        challenges: &Challenges,
        used: Scheme,
    ) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.is_of_client() {
            for challenge in challenges.headers(used, &self.challenge()) {
                headers.append(WWW_AUTHENTICATE, challenge);
            }
        }
        if let Some(after) = self.0.retry_after {
            // Rounded up, so that a client that waits for it is not too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.max(1).into());
        }
        if let Protocol::Grpc(content_type) = protocol {
            headers.insert(CONTENT_TYPE, content_type.clone());
            headers.insert(GRPC_STATUS, u16::from(self.reason().grpc_status()).into());
            let message = utf8_percent_encode(self.description(), GRPC_MESSAGE).to_string();
            headers.extend(HeaderValue::try_from(message).ok().map(|it| (GRPC_MESSAGE_NAME, it)));
            *response.status_mut() = StatusCode::OK;
        }
        response
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("reason", &self.reason())
            .field("description", &self.description())
            .field("scope", &self.scope())
            .finish_non_exhaustive()
    }
}
