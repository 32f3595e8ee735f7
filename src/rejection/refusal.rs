//! Why a request is refused, and the head of the response that says so.

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

/// Why a request is refused. It never holds any of the request's secrets. Cloning is cheap.
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
    /// Whether it is only because too many ask at the same time.
    overload: bool,
    /// The challenge that Authlete wrote, if it is a legal one.
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

    /// A token that the service cannot have issued.
    pub(crate) fn foreign_token() -> Self {
        Self::invalid_token("the access token is none of this service")
    }

    pub(crate) fn invalid_token(description: &'static str) -> Self {
        Self::new(Reason::InvalidToken, description)
    }

    /// `scope`: the scopes that the request takes (RFC 6750 §3), if it is scopes that are missing.
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

    /// It is because too many ask at the same time.
    pub(crate) fn overloaded(retry_after: Duration) -> Self {
        Self::unavailable(retry_after).with(|parts| parts.overload = true)
    }

    pub(crate) fn is_overload(&self) -> bool {
        self.0.overload
    }

    pub(crate) fn misconfigured(description: &'static str) -> Self {
        Self::new(Reason::Misconfigured, description)
    }

    /// Whether it says something about the token, rather than that nothing is known of it.
    pub(crate) fn is_verdict(&self) -> bool {
        self.is_of_client() && !self.is_of_proof()
    }

    /// Whether it is the fault of the client.
    pub(crate) fn is_of_client(&self) -> bool {
        !matches!(self.reason(), Reason::Unavailable | Reason::Misconfigured)
    }

    /// Whether only the proof is at fault, so that another one may do.
    pub(crate) fn is_of_proof(&self) -> bool {
        matches!(self.reason(), Reason::InvalidDpopProof | Reason::UseDpopNonce)
    }

    /// Adds the challenge that Authlete wrote, unless it is not a legal one.
    pub(crate) fn with_authlete_challenge(self, content: Option<&str>) -> Self {
        let challenge = content.and_then(Challenge::parse);
        self.with(|parts| parts.authlete = challenge)
    }

    /// Takes the reason from Authlete's challenge, if that is about the proof rather than the token.
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

    /// What kind of refusal it is.
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

    /// What is wrong, for people. In the challenge, it is without what RFC 6750 §3 forbids there: `"`
    /// becomes `'`, and `\` and all that is not visible ASCII becomes `?`.
    #[must_use]
    pub fn description(&self) -> &str {
        let written =
            self.0.authlete.as_ref().and_then(|challenge| challenge.get("error_description"));
        written.unwrap_or(&self.0.description)
    }

    /// The scopes that the request takes, separated by spaces, if it is scopes that are missing.
    #[must_use]
    pub fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }

    /// The authentication context classes of which one is required, separated by spaces.
    #[must_use]
    pub fn acr_values(&self) -> Option<&str> {
        self.0.acr_values.as_deref()
    }

    /// How long ago the user may have been authenticated.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        self.0.max_age
    }

    /// When the client may try again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What the challenge tells: Authlete's own if it wrote one, else made of the parts above.
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

    /// A response of this status with all its headers, and no body. For gRPC, it is one that consists of
    /// trailers only.
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
            // Rounded up, or who comes back then comes too early.
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
