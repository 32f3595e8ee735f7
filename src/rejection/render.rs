//! The body of the response that refuses a request.

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};

use super::{grpc::GRPC_STATUS, refusal::Rejection};

/// An extension of responses by which a layer or extractor of this crate refuses a request, if a layer
/// outside watches for it. The status does not tell: for gRPC it is 200, and renderers can change it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused;

impl Refused {
    /// Whether a response refuses the request.
    pub(crate) fn marks<B>(response: &Response<B>) -> bool {
        response.extensions().get::<Self>().is_some()
    }
}

/// Renders a response, and marks it by [`Refused`] if a layer outside watches for that.
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

/// Builds the response to a request that is refused.
///
/// Closures `Fn(&Rejection, Response<()>) -> Response<B>` implement it. The given response has its status
/// and headers; most renderers only add a body. If it has the header `grpc-status`, the body has to be
/// empty.
///
/// ```
/// use axum::body::Body;
/// use http::Response;
/// use tower_authlete::{AuthLayer, rejection::Rejection};
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

/// The default renderer: an empty body, by the body type's `Default`.
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
