//! How a request is refused: status, challenge and body, in one place for the layer, the policies
//! of routes and the extractors.

use std::{any::Any, borrow::Cow, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Extensions, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};

use crate::{challenge::Challenge, clock::Clock};

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
    /// The challenge that Authlete wrote, if it is a legal one.
    authlete: Option<Challenge>,
}

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No credentials of a scheme that is accepted here: 401, and a challenge without an error code
    /// (RFC 6750 §3.1).
    NoCredentials,
    /// The credentials are malformed: 400 `invalid_request`.
    InvalidRequest,
    /// The token is unknown, expired, revoked or not for this server: 401 `invalid_token`.
    InvalidToken,
    /// The token is good but does not allow this: 403 `insufficient_scope`.
    InsufficientScope,
    /// The user's authentication is too weak or too long ago: 401
    /// `insufficient_user_authentication` (RFC 9470).
    InsufficientUserAuthentication,
    /// Authlete could not be asked: 503. It says nothing about the token.
    Unavailable,
    /// This server is set up wrongly: 500. It says nothing about the token.
    Misconfigured,
}

impl Reason {
    /// The status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoCredentials | Self::InvalidToken | Self::InsufficientUserAuthentication => {
                StatusCode::UNAUTHORIZED
            }
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InsufficientScope => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Misconfigured => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code of the challenge's `error` (RFC 6750 §3.1, RFC 9470 §3).
    #[must_use]
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::InvalidRequest => Some("invalid_request"),
            Self::InvalidToken => Some("invalid_token"),
            Self::InsufficientScope => Some("insufficient_scope"),
            Self::InsufficientUserAuthentication => Some("insufficient_user_authentication"),
            Self::NoCredentials | Self::Unavailable | Self::Misconfigured => None,
        }
    }
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

    pub(crate) fn misconfigured(description: &'static str) -> Self {
        Self::new(Reason::Misconfigured, description)
    }

    /// Whether it says something about the token, rather than that nothing is known of it.
    pub(crate) fn is_verdict(&self) -> bool {
        !matches!(self.reason(), Reason::Unavailable | Reason::Misconfigured)
    }

    /// Adds the challenge that Authlete wrote, unless it is not a legal one.
    pub(crate) fn with_authlete_challenge(self, content: Option<&str>) -> Self {
        let challenge = content.and_then(Challenge::parse);
        self.with(|parts| parts.authlete = challenge)
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

    /// What is wrong, for people.
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

    /// The challenge of the response: Authlete's own if it wrote one, else made of the parts above.
    fn challenge(&self, realm: Option<&str>) -> Option<HeaderValue> {
        let parts = &*self.0;
        if !self.is_verdict() {
            return None;
        }
        let challenge = match &parts.authlete {
            Some(challenge) => challenge.clone(),
            None => Challenge::bearer()
                .param("error", parts.reason.error())
                .param("error_description", parts.reason.error().map(|_| &*parts.description))
                .param("scope", parts.scope.as_deref())
                .param("acr_values", parts.acr_values.as_deref())
                .param("max_age", parts.max_age.map(|age| age.as_secs().to_string()).as_deref()),
        };
        Some(challenge.realm(realm).to_header())
    }

    /// A response of this status with all its headers, and no body.
    pub(crate) fn head(&self, realm: Option<&str>) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge(realm) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(after) = self.0.retry_after {
            headers.insert(RETRY_AFTER, after.as_secs().max(1).into());
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

/// Makes the response to a request that is refused.
///
/// Every closure `Fn(&Rejection, Response<()>) -> Response<B>` is one. It is handed a response whose
/// status and headers are complete; most renderers only give it a body.
///
/// ```
/// use axum::body::Body;
/// use http::Response;
/// use tower_authlete::{AuthLayer, Rejection};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let auth = AuthLayer::builder(authlete)
///     .renderer(|rejection: &Rejection, head: Response<()>| {
///         let text = rejection.description().to_owned();
///         head.map(|()| Body::from(text))
///     })
///     .build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
pub trait Renderer<B>: Send + Sync + 'static {
    /// The response: `head` with a body, or another.
    fn render(&self, rejection: &Rejection, head: Response<()>) -> Response<B>;
}

impl<B, F> Renderer<B> for F
where
    F: Fn(&Rejection, Response<()>) -> Response<B> + Send + Sync + 'static,
{
    fn render(&self, rejection: &Rejection, head: Response<()>) -> Response<B> {
        self(rejection, head)
    }
}

/// The default renderer: no body, which every body type with a default can be.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyBody;

impl<B: Default> Renderer<B> for EmptyBody {
    fn render(&self, _: &Rejection, head: Response<()>) -> Response<B> {
        head.map(|()| B::default())
    }
}

/// Renders refusals as problem details (RFC 9457), for bodies that can be made from bytes, such as
/// axum's `Body` and `Full<Bytes>`.
///
/// Its members: `title`, `status`, `detail`, and, where they apply, `error`, `scope`, `acr_values`
/// and `max_age` (s) as in the challenge.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProblemDetails;

impl<B: From<Bytes>> Renderer<B> for ProblemDetails {
    fn render(&self, rejection: &Rejection, head: Response<()>) -> Response<B> {
        let status = rejection.status();
        let mut problem = serde_json::json!({
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": rejection.description(),
        });
        let more = [
            ("error", rejection.error().map(Into::into)),
            ("scope", rejection.scope().map(Into::into)),
            ("acr_values", rejection.acr_values().map(Into::into)),
            ("max_age", rejection.max_age().map(|age| age.as_secs().into())),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                problem[name] = value;
            }
        }
        let mut response = head.map(|()| B::from(problem.to_string().into()));
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// Says no for the layer and for what is inside it. The layer leaves one in the extensions of the
/// requests that it lets pass, so that routes and extractors refuse in the same way.
#[derive(Clone)]
pub(crate) struct Guard(Arc<GuardParts>);

struct GuardParts {
    realm: Option<Box<str>>,
    clock: Clock,
    /// An `Arc<dyn Renderer<B>>`, where `B` is the layer's response body.
    renderer: Box<dyn Any + Send + Sync>,
}

impl Guard {
    pub(crate) fn new<B: 'static>(
        realm: Option<&str>,
        clock: Clock,
        renderer: Arc<dyn Renderer<B>>,
    ) -> Self {
        let realm = realm.map(Into::into);
        Self(Arc::new(GuardParts { realm, clock, renderer: Box::new(renderer) }))
    }

    /// The clock that the layer goes by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The layer's guard.
    pub(crate) fn find(extensions: &Extensions) -> Result<&Self, Rejection> {
        extensions.get().ok_or_else(|| {
            tracing::error!(
                "a requirement or an extractor is used where no AuthLayer is outside of it; add \
                 `.layer(auth)` to the router or service around it"
            );
            Rejection::misconfigured("no AuthLayer protects this route")
        })
    }
}

/// The response to a request that is refused inside a layer: as the layer itself would refuse it,
/// unless bodies are of another type here.
pub(crate) fn refuse<B: Default + 'static>(
    extensions: &Extensions,
    rejection: &Rejection,
) -> Response<B> {
    tracing::debug!(reason = ?rejection.reason(), "request refused");
    let guard = extensions.get::<Guard>();
    let head = rejection.head(guard.and_then(|guard| guard.0.realm.as_deref()));
    let renderer = guard.and_then(|guard| guard.0.renderer.downcast_ref::<Arc<dyn Renderer<B>>>());
    match renderer {
        Some(renderer) => renderer.render(rejection, head),
        None => EmptyBody.render(rejection, head),
    }
}
