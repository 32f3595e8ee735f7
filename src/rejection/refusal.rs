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

const SCOPES: &str = "the access token lacks a scope that is required";

/// The refusal of a request. It holds no secret of the request. Cloning is cheap.
///
/// Handlers refuse with one too. It becomes a response by `into()`, and in axum by `IntoResponse`. The
/// nearest [`AuthLayer`](crate::AuthLayer) outside gives that response the layer's challenge (realm, scheme,
/// metadata) and renders it by the layer's [`Renderer`](crate::rejection::Renderer). It counts as a refusal: the token is neither
/// extended nor rotated by this request. Status, headers and extensions that are added to the response
/// on its way stay; its body is replaced. Without a layer, the body stays empty.
///
/// ```
/// use axum::{extract::Path, http::StatusCode};
/// use tower_authlete::{TokenInfo, rejection::Rejection};
///
/// # fn owner_of(_: &str) -> &'static str { "alice" }
/// async fn delete(Path(note): Path<String>, token: TokenInfo) -> Result<StatusCode, Rejection> {
///     if !token.scopes().contains("notes.delete") {
///         return Err(Rejection::insufficient_scope(["notes.delete"]));
///     }
///     if token.subject() != Some(owner_of(&note)) {
///         return Err(Rejection::forbidden("this note is of another user"));
///     }
///     Ok(StatusCode::NO_CONTENT)
/// }
/// ```
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
    /// Not inlined, so that a hit makes no room for it.
    #[cold]
    #[inline(never)]
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

    /// There is no token, and this takes one: 401 with a challenge (RFC 6750 §3.1). For handlers of
    /// [`optional`](crate::AuthLayer::optional) routes.
    #[must_use]
    pub fn no_credentials() -> Self {
        Self::new(Reason::NoCredentials, "an access token is required")
    }

    /// The token lacks one of these scopes: 403 `insufficient_scope`, with all of them in the challenge
    /// (RFC 6750 §3.1). As in descriptions, characters that no scope can have are replaced there.
    #[must_use]
    pub fn insufficient_scope(scopes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self::denied(SCOPES, Some(join(scopes)))
    }

    /// The user has to be authenticated more strongly or more recently: 401
    /// `insufficient_user_authentication` (RFC 9470 §3), by which clients begin a step-up. Tell them what it
    /// takes by [`with_acr_values`](Self::with_acr_values) or [`with_max_age`](Self::with_max_age).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_authlete::rejection::Rejection;
    ///
    /// let rejection =
    ///     Rejection::insufficient_authentication().with_max_age(Duration::from_secs(300));
    /// assert_eq!(rejection.status(), 401);
    /// ```
    #[must_use]
    pub fn insufficient_authentication() -> Self {
        let description = "the user has to be authenticated more strongly or more recently";
        Self::new(Reason::InsufficientUserAuthentication, description)
    }

    /// This is refused whatever the scopes of the token: 403 `access_denied`, without a challenge. The
    /// description goes to the client.
    #[must_use]
    pub fn forbidden(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::Forbidden, description)
    }

    /// With the authentication context classes of which one is required, in this order of preference
    /// (RFC 9470 §3).
    #[must_use]
    pub fn with_acr_values(self, values: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.with(|parts| parts.acr_values = Some(join(values)).filter(|it| !it.is_empty()))
    }

    /// With how long ago the user may have been authenticated, in whole seconds (RFC 9470 §3).
    #[must_use]
    pub fn with_max_age(self, age: Duration) -> Self {
        self.with(|parts| parts.max_age = Some(age))
    }

    /// With another description for people, which goes to the client.
    #[must_use]
    pub fn with_description(self, description: impl Into<Cow<'static, str>>) -> Self {
        self.with(|parts| parts.description = description.into())
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
        Self::invalid_token("the access token was not issued by this service")
    }

    pub(crate) fn invalid_token(description: &'static str) -> Self {
        Self::new(Reason::InvalidToken, description)
    }

    /// `scope`: the scopes that the request requires (RFC 6750 §3), if scopes are missing.
    pub(crate) fn denied(description: &'static str, scope: Option<String>) -> Self {
        let scope = scope.filter(|scope| !scope.is_empty());
        Self::new(Reason::InsufficientScope, description).with(|parts| parts.scope = scope)
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
        counters::refused(self.reason().as_str());
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

    /// The `error` of the response, if there is one: see [`Reason::error`].
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
        if self.reason().has_challenge() {
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

/// The form of lists in challenges: separated by spaces.
fn join(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut joined = String::new();
    for name in names {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(name.as_ref());
    }
    joined
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
