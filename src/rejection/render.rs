//! The body of the response that refuses a request.

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::Full;

use super::{grpc::GRPC_STATUS, refusal::Rejection};
use crate::{credentials::RequestHead, token::TokenInfo};

/// An extension of responses that refuse a request: those of handlers, and those of a layer or extractor
/// of this crate, if a layer outside watches for it. The status does not tell: for gRPC it is 200, and
/// renderers can change it.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// What a handler returned and no layer has rendered yet.
    returned: Option<Rejection>,
}

impl Refused {
    /// Marks what a handler returns.
    pub(crate) fn returned(rejection: Rejection) -> Self {
        Self { returned: Some(rejection) }
    }

    /// Takes what a handler returned, so that it is rendered once. The mark stays.
    #[inline]
    pub(crate) fn take_returned<B>(response: &mut Response<B>) -> Option<Rejection> {
        response.extensions_mut().get_mut::<Self>()?.returned.take()
    }

    /// Whether a response refuses the request.
    pub(crate) fn marks<B>(response: &Response<B>) -> bool {
        response.extensions().get::<Self>().is_some()
    }
}

/// Renders a response, and marks it by [`Refused`] if a layer outside watches for that.
pub(crate) fn render<B>(
    renderer: &(impl Renderer<B> + ?Sized),
    refusal: &Refusal<'_>,
    head: Response<()>,
    watched: bool,
) -> Response<B> {
    let mut response = renderer.render(refusal, head);
    if watched {
        response.extensions_mut().insert(Refused { returned: None });
    }
    response
}

/// A request that is refused: why, and what is known of it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Refusal<'r> {
    /// Why it is refused.
    pub rejection: &'r Rejection,
    /// The head of the request. `None` where it is gone: a handler returned the [`Rejection`] and the renderer
    /// does not [keep](Renderer::keeps_requests) requests, a response could not be signed, or a browser's
    /// session has ended. Its headers can hold credentials.
    pub request: Option<RequestHead<'r>>,
    /// The token, if it is valid and the client holds it: only its rights, or the user's
    /// authentication, do not suffice. Renderers decide which of its facts the client may see.
    pub token: Option<&'r TokenInfo>,
}

impl<'r> Refusal<'r> {
    /// `token`: what is known of it, if anything is. It is left out unless the refusal is of its rights.
    pub(crate) fn new(
        rejection: &'r Rejection,
        request: Option<RequestHead<'r>>,
        token: Option<&'r TokenInfo>,
    ) -> Self {
        Self { rejection, request, token: token.filter(|_| rejection.reason().is_of_rights()) }
    }
}

/// Builds the response to a request that is refused.
///
/// Closures `Fn(&Refusal<'_>, Response<()>) -> Response<B>` implement it. The given response has its status
/// and headers; most renderers only add a body. If it has the header `grpc-status`, the body has to be
/// empty.
///
/// ```
/// use axum::body::Body;
/// use http::Response;
/// use tower_authlete::{AuthLayer, Refusal};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let auth = AuthLayer::builder(authlete)
///     .renderer(|refusal: &Refusal<'_>, head: Response<()>| {
///         let path = refusal.request.map_or("this", |request| request.uri.path());
///         let text = format!("{path}: {}", refusal.rejection.description());
///         head.map(|()| Body::from(text))
///     })
///     .build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
pub trait Renderer<B>: Send + Sync + 'static {
    /// The response: `head` with a body, or another.
    fn render(&self, refusal: &Refusal<'_>, head: Response<()>) -> Response<B>;

    /// Whether [`Refusal::request`] is needed for a [`Rejection`] that a handler returns, too. The layer then
    /// copies the head of each request that it admits, headers included, and keeps the copy until the response
    /// is there. Otherwise an admitted request costs no such allocations. Default, and for closures: no.
    fn keeps_requests(&self) -> bool {
        false
    }
}

impl<B, F> Renderer<B> for F
where
    F: Fn(&Refusal<'_>, Response<()>) -> Response<B> + Send + Sync + 'static,
{
    fn render(&self, refusal: &Refusal<'_>, head: Response<()>) -> Response<B> {
        self(refusal, head)
    }
}

/// The default renderer: an empty body, by the body type's `Default`. Where a middleware inside makes bodies
/// that have none, such as tower-http's `TraceLayer`, see [`ProblemDetails`] for what to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyBody;

impl<B: Default> Renderer<B> for EmptyBody {
    fn render(&self, _: &Refusal<'_>, head: Response<()>) -> Response<B> {
        head.map(|()| B::default())
    }
}

/// Renders refusals as problem details (RFC 9457), for bodies that can be made from bytes, such as
/// axum's `Body` and `Full<Bytes>`.
///
/// Its members: `title`, `status`, `detail`, and, where they apply, `error` ([`Reason::error`](crate::Reason::error)),
/// and `scope`, `acr_values` and `max_age` (s) as in the challenge.
///
/// [`with`](Self::with) is for all other bodies. A body that only a middleware inside can make, such as
/// those of tower-http's `CompressionLayer` and `TraceLayer`, has to become one of these first. axum's
/// `Router::layer` does that. In a `ServiceBuilder`, tower-http's `MapResponseBodyLayer` does:
///
/// ```
/// use axum::{Router, body::Body};
/// use tower::ServiceBuilder;
/// use tower_authlete::{AuthLayer, ProblemDetails};
/// use tower_http::{map_response_body::MapResponseBodyLayer, trace::TraceLayer};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<Router, tower_authlete::ConfigError> {
/// let auth = AuthLayer::builder(authlete).renderer(ProblemDetails).build()?;
/// let inside = MapResponseBodyLayer::new(Body::new);
/// let stack = ServiceBuilder::new().layer(auth).layer(inside).layer(TraceLayer::new_for_http());
/// # Ok(
/// Router::new().layer(stack)
/// # )
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ProblemDetails;

impl ProblemDetails {
    /// The same problem details, for bodies that are made by a function of yours: of boxes, of tonic, or your
    /// own.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, Full, combinators::BoxBody};
    /// use tower_authlete::{AuthLayer, ProblemDetails};
    ///
    /// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
    /// fn boxed(body: Full<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    ///     body.map_err(|never| match never {}).boxed()
    /// }
    ///
    /// let auth = AuthLayer::builder(authlete).renderer(ProblemDetails::with(boxed)).build()?;
    /// # let _ = auth;
    /// // For tonic: ProblemDetails::with(tonic::body::Body::new)
    /// # Ok(())
    /// # }
    /// ```
    pub fn with<B>(body: impl Fn(Full<Bytes>) -> B + Send + Sync + 'static) -> impl Renderer<B> {
        move |refusal: &Refusal<'_>, head: Response<()>| {
            problem(refusal.rejection, head).map(|text| body(text.into()))
        }
    }
}

impl<B: From<Bytes>> Renderer<B> for ProblemDetails {
    fn render(&self, refusal: &Refusal<'_>, head: Response<()>) -> Response<B> {
        problem(refusal.rejection, head).map(B::from)
    }
}

/// The problem details of a refusal, and nothing for gRPC, whose refusals have no body.
fn problem(rejection: &Rejection, head: Response<()>) -> Response<Bytes> {
    if head.headers().contains_key(GRPC_STATUS) {
        return head.map(|()| Bytes::new());
    }
    let status = head.status();
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
    let mut response = head.map(|()| problem.to_string().into());
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
