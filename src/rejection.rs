//! How a request is refused: status, challenge and body, in one place for the layer, the policies
//! of routes and the extractors.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Extensions, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{
    challenge::{Challenge, Challenges},
    clock::Clock,
    credentials::{RequestHead, Scheme},
    meter,
    observe::{LogLimit, limited},
    request::context::AuthContext,
};

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
    crowd: bool,
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
    /// The DPoP proof is missing, malformed, for something else or used before: 401
    /// `invalid_dpop_proof` (RFC 9449 §7.1). It says nothing about the token.
    InvalidDpopProof,
    /// The DPoP proof has to hold the nonce that the response tells: 401 `use_dpop_nonce` (RFC 9449
    /// §9). It says nothing about the token.
    UseDpopNonce,
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
            Self::NoCredentials
            | Self::InvalidToken
            | Self::InvalidDpopProof
            | Self::UseDpopNonce
            | Self::InsufficientUserAuthentication => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InsufficientScope => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Misconfigured => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A name for counters.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
            reason => reason.error().unwrap_or_default(),
        }
    }

    /// The status of gRPC.
    pub(crate) fn grpc_status(self) -> u8 {
        match self {
            Self::InvalidRequest => 3,
            Self::InsufficientScope => 7,
            Self::Misconfigured => 13,
            Self::Unavailable => 14,
            Self::NoCredentials
            | Self::InvalidToken
            | Self::InvalidDpopProof
            | Self::UseDpopNonce
            | Self::InsufficientUserAuthentication => 16,
        }
    }

    /// The code of the challenge's `error` (RFC 6750 §3.1, RFC 9449 §7.1, RFC 9470 §3).
    #[must_use]
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::InvalidRequest => Some("invalid_request"),
            Self::InvalidToken => Some("invalid_token"),
            Self::InvalidDpopProof => Some("invalid_dpop_proof"),
            Self::UseDpopNonce => Some("use_dpop_nonce"),
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
            crowd: false,
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
    pub(crate) fn crowded(retry_after: Duration) -> Self {
        Self::unavailable(retry_after).with(|parts| parts.crowd = true)
    }

    pub(crate) fn is_of_crowd(&self) -> bool {
        self.0.crowd
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
        meter::refused(self.reason());
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

/// What a message of gRPC holds as it is: visible ASCII and spaces, without the percent sign.
const GRPC_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE_NAME: HeaderName = HeaderName::from_static("grpc-message");

/// How a request wants to be refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Protocol {
    /// By the status of the response.
    Http,
    /// By trailers only, under the request's content type.
    Grpc(HeaderValue),
}

impl Protocol {
    /// gRPC is POST over HTTP/2 or later, gRPC-Web is POST over any version, each with a content type of
    /// its own. Anything else is plain HTTP, to which a refusal by trailers would look like a success.
    pub(crate) fn of(request: RequestHead<'_>) -> Self {
        let content_type =
            request.headers.get(CONTENT_TYPE).filter(|_| request.method == Method::POST);
        let over_http2 = request.version >= Version::HTTP_2;
        match content_type {
            Some(value) if is_grpc_web(value) || (over_http2 && is_grpc(value)) => {
                Self::Grpc(value.clone())
            }
            _ => Self::Http,
        }
    }
}

/// `application/grpc`, and what may follow: `+proto` or another format, or parameters.
fn is_grpc(content_type: &HeaderValue) -> bool {
    is_type(content_type, b"application/grpc")
}

fn is_grpc_web(content_type: &HeaderValue) -> bool {
    is_type(content_type, b"application/grpc-web")
        || is_type(content_type, b"application/grpc-web-text")
}

fn is_type(content_type: &HeaderValue, name: &[u8]) -> bool {
    let Some((start, rest)) = content_type.as_bytes().split_at_checked(name.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(name) && rest.first().is_none_or(|next| b"+; \t".contains(next))
}

/// In the extensions of every response by which one of this crate's layers or extractors refuses a
/// request, if a layer outside wants to know. The status does not tell: gRPC is refused with 200, and renderers choose their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused;

impl Refused {
    /// Whether a response refuses the request.
    pub(crate) fn marks<B>(response: &Response<B>) -> bool {
        response.extensions().get::<Self>().is_some()
    }
}

/// The response that refuses a request, marked by [`Refused`] whatever the renderer makes of it, if a
/// layer outside watches for that.
pub(crate) fn render<B>(
    renderer: &(impl Renderer<B> + ?Sized),
    rejection: &Rejection,
    head: Response<()>,
    watched: bool,
) -> Response<B> {
    let mut response = renderer.render(rejection, head);
    if watched {
        response.extensions_mut().insert(Refused);
    }
    response
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
/// status and headers are complete; most renderers only give it a body. If it has the header
/// `grpc-status`, the body has to be empty.
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
        if head.headers().contains_key(GRPC_STATUS) {
            return head.map(|()| B::from(Bytes::new()));
        }
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

/// Says no for the layer and for what is inside it. The layer leaves one in the requests that it lets
/// pass, in what it tells of their token, so that routes and extractors refuse in the same way.
#[derive(Clone)]
pub(crate) struct Guard(Arc<GuardParts>);

struct GuardParts {
    challenges: Challenges,
    clock: Clock,
    /// For the type of the response bodies of the service that was asked first: mostly the only one.
    first: OnceLock<Erased>,
    others: RwLock<Vec<Erased>>,
    /// The epochs of the layer's shards, as long as it is there.
    epochs: OnceLock<Epochs>,
}

type Epochs = Box<dyn Fn(u16) -> Option<u64> + Send + Sync>;

/// An `Arc<dyn Renderer<B>>` for a type `B` of the layer's response bodies.
type Erased = Box<dyn Any + Send + Sync>;

fn restored<B: 'static>(renderer: &Erased) -> Option<&Arc<dyn Renderer<B>>> {
    renderer.downcast_ref()
}

impl Guard {
    pub(crate) fn new(challenges: Challenges, clock: Clock) -> Self {
        let (first, others) = (OnceLock::new(), RwLock::default());
        let epochs = OnceLock::new();
        Self(Arc::new(GuardParts { challenges, clock, first, others, epochs }))
    }

    /// By what [`epoch`](Self::epoch) goes. Only the first counts.
    pub(crate) fn tell_epochs(&self, epochs: impl Fn(u16) -> Option<u64> + Send + Sync + 'static) {
        let _first = self.0.epochs.set(Box::new(epochs));
    }

    /// How often tokens of a shard were invalidated; `None` if the layer is gone.
    pub(crate) fn epoch(&self, shard: u16) -> Option<u64> {
        self.0.epochs.get()?(shard)
    }

    /// Differs from that of any other guard that exists.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Lets it make responses with bodies of this type.
    pub(crate) fn renders<B: 'static>(&self, renderer: &Arc<impl Renderer<B>>) {
        let erased = || -> Erased { Box::new(renderer.clone() as Arc<dyn Renderer<B>>) };
        let first = self.0.first.get_or_init(erased);
        if restored::<B>(first).is_none() && self.renderer::<B>().is_none() {
            let mut others = self.0.others.write().unwrap_or_else(PoisonError::into_inner);
            others.push(erased());
        }
    }

    fn renderer<B: 'static>(&self) -> Option<Arc<dyn Renderer<B>>> {
        if let Some(renderer) = self.0.first.get().and_then(restored) {
            return Some(renderer.clone());
        }
        let others = self.0.others.read().unwrap_or_else(PoisonError::into_inner);
        others.iter().find_map(restored).cloned()
    }

    /// The clock that the layer goes by.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn challenges(&self) -> &Challenges {
        &self.0.challenges
    }

    /// The nearest layer's guard.
    pub(crate) fn find(extensions: &Extensions) -> Result<&Self, Rejection> {
        AuthContext::guard(extensions).ok_or_else(|| {
            // There is no layer, and so none whose limit this could be.
            static LOG: LazyLock<LogLimit> = LazyLock::new(LogLimit::default);
            limited!(
                error,
                LOG,
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
    request: RequestHead<'_>,
    extensions: &Extensions,
    rejection: &Rejection,
) -> Response<B> {
    rejection.note();
    let used = AuthContext::scheme(extensions);
    let (protocol, watched) = (Protocol::of(request), AuthContext::is_watched(extensions));
    let Some(guard) = AuthContext::guard(extensions) else {
        let head = rejection.head(&protocol, &Challenges::default(), used);
        return render(&EmptyBody, rejection, head, watched);
    };
    let head = rejection.head(&protocol, guard.challenges(), used);
    match guard.renderer() {
        Some(renderer) => render(&*renderer, rejection, head, watched),
        None => render(&EmptyBody, rejection, head, watched),
    }
}
