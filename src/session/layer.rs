//! The layer that turns a session's cookie into its access token.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{AUTHORIZATION, SET_COOKIE},
};
use tower::BoxError;
use tower_http::csrf::{Csrf, CsrfLayer};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    renewal::{Client, Renewal, State},
    store::{SessionId, SessionStore, SessionTokens},
};
use crate::{
    api::{Authlete, ConfigError, Secret},
    challenge::Challenges,
    clock::Clock,
    credentials::{CookieToken, RequestHead, Scheme, TokenSource},
    layer::finish,
    rejection::{self, EmptyBody, Protocol, Rejection},
};

/// The prefix keeps other hosts and plain HTTP from setting the cookie (RFC 6265bis §4.1.3.2).
const COOKIE: &str = "__Host-session";

/// Presents the access token of a browser's session to the layer inside of it.
///
/// Requests without the session's cookie go on as they are. With it, an `Authorization` header of the
/// browser's is replaced. An access token that has expired or is about to is renewed first: once per
/// session, however many requests; and what was renewed is saved before it is used. If that fails, the
/// answer is 503, and the new tokens are kept until they can be saved. When the refresh token is of no
/// use any more, the session ends: 401, and the cookie is taken away.
///
/// Requests of unsafe methods from other sites are refused with 403, by tower-http's
/// [`csrf`](tower_http::csrf).
pub struct SessionLayer<St> {
    renewal: Arc<Renewal<St>>,
}

impl<St: SessionStore> SessionLayer<St> {
    /// Settings for a layer.
    pub fn builder(authlete: Authlete, store: St) -> SessionLayerBuilder<St> {
        SessionLayerBuilder {
            authlete,
            store,
            client: Client { id: String::new(), secret: Secret::default(), post: false },
            margin: Duration::from_secs(30),
            clock: Clock::system(),
        }
    }

    /// A handle to begin and end sessions by.
    #[must_use]
    pub fn sessions(&self) -> Sessions<St> {
        Sessions { renewal: self.renewal.clone() }
    }
}

impl<St> Clone for SessionLayer<St> {
    fn clone(&self) -> Self {
        Self { renewal: self.renewal.clone() }
    }
}

impl<St> fmt::Debug for SessionLayer<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("client", &self.renewal.client.id)
            .finish_non_exhaustive()
    }
}

impl<S, St> Layer<S> for SessionLayer<St> {
    type Service = Csrf<SessionService<S, St>>;

    fn layer(&self, inner: S) -> Self::Service {
        CsrfLayer::new().layer(SessionService { inner, renewal: self.renewal.clone() })
    }
}

/// Settings of a [`SessionLayer`].
#[must_use = "settings do nothing until `build` is called"]
pub struct SessionLayerBuilder<St> {
    authlete: Authlete,
    store: St,
    client: Client,
    margin: Duration,
    clock: Clock,
}

impl<St: SessionStore> SessionLayerBuilder<St> {
    /// The confidential client that the tokens were issued to: its ID and secret. Required.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        self.client.id = id.into();
        self.client.secret = secret.into();
        self
    }

    /// Authenticates the client in the form (`client_secret_post`) rather than by Basic.
    pub fn client_secret_post(mut self) -> Self {
        self.client.post = true;
        self
    }

    /// How long before its expiry an access token is renewed. Default: 30 s.
    pub fn margin(self, margin: Duration) -> Self {
        Self { margin, ..self }
    }

    /// The clock by which tokens expire. Default: the system's.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The layer.
    ///
    /// # Errors
    /// If the client's ID or secret is missing.
    pub fn build(self) -> Result<SessionLayer<St>, ConfigError> {
        if self.client.id.is_empty() || self.client.secret.is_empty() {
            let remedy = "give the ID and secret of the client that the tokens were issued to";
            return Err(ConfigError::new("client", "ID or secret missing", remedy));
        }
        let Self { authlete, store, client, margin, clock } = self;
        let renewal = Renewal::new(authlete, store, client, clock, margin);
        Ok(SessionLayer { renewal: Arc::new(renewal) })
    }
}

impl<St> fmt::Debug for SessionLayerBuilder<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayerBuilder")
            .field("client", &self.client)
            .field("margin", &self.margin)
            .finish_non_exhaustive()
    }
}

/// Begins and ends sessions.
pub struct Sessions<St> {
    renewal: Arc<Renewal<St>>,
}

impl<St: SessionStore> Sessions<St> {
    /// Begins a session with tokens that were issued to this server. The answer is a value for
    /// `Set-Cookie`. Begin a new session at every log-in, and [`end`](Self::end) the one before.
    ///
    /// # Errors
    /// If the tokens cannot be saved.
    pub async fn begin(&self, tokens: SessionTokens) -> Result<HeaderValue, BoxError> {
        let cookie = SessionId::new_cookie();
        self.renewal.store.save(&SessionId::of(cookie.expose()), &tokens).await?;
        let text = format!("{COOKIE}={}; {ATTRIBUTES}", cookie.expose());
        let mut value = HeaderValue::try_from(text)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Ends the session that a request's headers name, if they do, and revokes its tokens. The answer
    /// is a value for `Set-Cookie` that takes the cookie away.
    ///
    /// It is finished even if the future is dropped.
    ///
    /// # Errors
    /// If the session cannot be removed: then it has not ended. If its tokens cannot be revoked: it has
    /// ended, and this can be called again to revoke them, as long as this process runs.
    pub async fn end(&self, headers: &HeaderMap) -> Result<HeaderValue, BoxError> {
        if let Some(id) = session_of(headers) {
            let renewal = self.renewal.clone();
            finish(async move { renewal.log_out(&id).await }).await?;
        }
        Ok(removal())
    }
}

impl<St> Clone for Sessions<St> {
    fn clone(&self) -> Self {
        Self { renewal: self.renewal.clone() }
    }
}

impl<St> fmt::Debug for Sessions<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

const ATTRIBUTES: &str = "HttpOnly; Secure; SameSite=Lax; Path=/";

/// Takes the cookie away.
fn removal() -> HeaderValue {
    HeaderValue::from_static("__Host-session=; HttpOnly; Secure; SameSite=Lax; Path=/; Max-Age=0")
}

/// The session that a request names: by one cookie, not by several.
fn session_of(headers: &HeaderMap) -> Option<SessionId> {
    let request = Request::new(());
    let head = RequestHead { headers, ..RequestHead::of(&request) };
    let cookie = CookieToken::new(COOKIE).token(head).ok()??;
    Some(SessionId::of(cookie))
}

/// The service of [`SessionLayer`], inside of its protection against cross-site requests.
pub struct SessionService<S, St> {
    inner: S,
    renewal: Arc<Renewal<St>>,
}

impl<S: Clone, St> Clone for SessionService<S, St> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), renewal: self.renewal.clone() }
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
        let renewal = self.renewal.clone();
        Box::pin(async move {
            let Some(id) = session_of(request.headers()) else {
                return service.call(request).await;
            };
            match renewal.tokens(&id).await {
                State::Tokens(tokens) => {
                    request.headers_mut().remove(AUTHORIZATION);
                    if let Some(value) = bearer(&tokens.access_token) {
                        request.headers_mut().insert(AUTHORIZATION, value);
                    }
                    service.call(request).await
                }
                State::Ended => Ok(ended()),
                State::Unknown => Ok(refused(&Rejection::unavailable(Duration::from_secs(1)))),
            }
        })
    }
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn refused<B: Default>(rejection: &Rejection) -> Response<B> {
    let head = rejection.head(&Protocol::Http, &Challenges::default(), Scheme::Bearer);
    rejection::render(&EmptyBody, rejection, head)
}

/// The session has ended: the browser has to log in.
fn ended<B: Default>() -> Response<B> {
    let mut response = refused(&Rejection::invalid_token("the session has ended"));
    response.headers_mut().append(SET_COOKIE, removal());
    response
}
