//! The service: replaces a request's cookie by its session's access token.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, HOST, ORIGIN, SET_COOKIE, UPGRADE},
};
use tower_service::Service;

use super::{cookie::Cookie, renewal::Renewal, saved::State, store::SessionStore};
use crate::{
    api::Secret,
    credentials::Scheme,
    rejection::{self, Challenges, EmptyBody, Protocol, Refusal, Rejection},
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The service of [`SessionLayer`](super::SessionLayer), inside of its CSRF protection.
pub struct SessionService<S, St> {
    inner: S,
    renewal: Arc<Renewal<St>>,
    cookie: Cookie,
}

impl<S, St> SessionService<S, St> {
    pub(super) fn new(inner: S, renewal: Arc<Renewal<St>>, cookie: Cookie) -> Self {
        Self { inner, renewal, cookie }
    }
}

impl<S: Clone, St> Clone for SessionService<S, St> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.renewal.clone(), self.cookie.clone())
    }
}

impl<S: fmt::Debug, St> fmt::Debug for SessionService<S, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Response future of [`SessionService`].
pub type SessionFuture<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

impl<S, St, B, ResB> Service<Request<B>> for SessionService<S, St>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send,
    St: SessionStore,
    B: Send + 'static,
    ResB: Default,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = SessionFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let mut service = std::mem::replace(&mut self.inner, clone);
        let (renewal, cookie) = (self.renewal.clone(), self.cookie.clone());
        Box::pin(async move {
            let Some(id) = cookie.session(request.headers()) else {
                return service.call(request).await;
            };
            if is_foreign_upgrade(request.headers(), request.uri()) {
                let mut response = Response::new(ResB::default());
                *response.status_mut() = StatusCode::FORBIDDEN;
                return Ok(response);
            }
            match renewal.tokens(&id).await {
                State::Tokens(tokens) => {
                    request.headers_mut().remove(AUTHORIZATION);
                    if let Some(value) = bearer(&tokens.access_token) {
                        request.headers_mut().insert(AUTHORIZATION, value);
                        request.extensions_mut().insert(renewal.sink(&id, &tokens));
                    }
                    service.call(request).await
                }
                State::Ended => Ok(ended(&cookie)),
                State::Unknown => Ok(refused(&Rejection::unavailable(Duration::from_secs(1)))),
            }
        })
    }
}

/// Whether a page of another origin asks for an upgrade, such as to a WebSocket (RFC 6455 §4.1).
///
/// That is a GET, which tower-http's `csrf` accepts, and with which browsers send `SameSite=Lax` cookies from
/// other hosts of the same site. They always send `Origin` too. Over HTTP/2 it is a CONNECT (RFC 8441),
/// which `csrf` checks.
fn is_foreign_upgrade(headers: &HeaderMap, uri: &Uri) -> bool {
    if !headers.contains_key(UPGRADE) {
        return false;
    }
    match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        Some(b"same-origin" | b"none") => return false,
        None | Some(b"") => {}
        Some(_) => return true,
    }
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = authority.or_else(|| headers.get(HOST).map(HeaderValue::as_bytes));
    let is_ours = |origin: &HeaderValue| {
        let origin = Uri::try_from(origin.as_bytes()).ok();
        let authority = origin.as_ref().and_then(Uri::authority);
        host.is_some() && authority.map(|it| it.as_str().as_bytes()) == host
    };
    !headers.get_all(ORIGIN).iter().all(is_ours)
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn refused<B: Default>(rejection: &Rejection) -> Response<B> {
    let head = rejection.head(&Protocol::Http, &Challenges::default(), Scheme::Bearer);
    rejection::render(&EmptyBody, &Refusal::new(rejection, None, None), head, true)
}

/// 401, and the removal of the cookie: the browser has to log in.
fn ended<B: Default>(cookie: &Cookie) -> Response<B> {
    let mut response = refused(&Rejection::invalid_token("the session has ended"));
    response.headers_mut().append(SET_COOKIE, cookie.removal());
    response
}
