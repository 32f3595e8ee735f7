//! The outbound layer.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body::Body;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::tokens::{DelegateError, Order, Token, Tokens};
use crate::{
    api::{Authlete, GrantType, TokenCreateRequest, document::to_millis},
    clock::Clock,
    store::{Key, KeySpace},
    token::TokenInfo,
};

const SECOND: Duration = Duration::from_secs(1);

/// Attaches an access token to calls of other services: one that is made for the call by
/// `/auth/token/create`, and can do less than the one that came in.
///
/// The token is for the user of the inbound request, whose [`TokenInfo`] the outbound request has to
/// have in its extensions. It has those of [`scopes`](Self::scopes) that the inbound token has too,
/// never more, and does not outlive it: it lives for [`life`](Self::life) or until the inbound token
/// expires, in whole seconds. If Authlete makes one that has more scopes or lives longer, it is not sent
/// but revoked. With [`as_service`](Self::as_service), it is for no user.
///
/// Tokens are kept until shortly before they expire, by client, user, scopes, resources and inbound
/// token, and renewed ahead of time in the background: at most 10 000 for each service that the layer
/// makes, which its clones share. When the other service
/// answers 401, the token is dropped, and the call is made once more if it has no body.
///
/// # When the inbound token is revoked
///
/// Where it is forgotten, changed or revoked by this server's [`AuthHandle`](crate::AuthHandle) or
/// endpoints, no call begins with a token that was made for it before, nor with one that was being made.
/// That takes a [`TokenInfo`] that [`AuthLayer`](crate::AuthLayer) put into the inbound request; one made
/// by `TokenInfo::from` is bound to no layer. Authlete is not told: other services take what they were
/// sent for `life` at most (5 minutes by default).
///
/// If the inbound token is revoked elsewhere, this server learns of it within the layer's
/// [`max_age`](crate::AuthLayerBuilder::max_age). A token made just before that ends `life` later, so that
/// other services can be called for `max_age` and `life` together: 6 minutes by default.
///
/// The facts in a `TokenInfo` are those of when its request was let pass: whoever keeps it beyond the
/// request can go on making calls until the inbound token's expiry, also if that was revoked.
///
/// ```
/// use tower::{ServiceBuilder, service_fn};
/// use tower_authlete::{Authlete, delegate::DelegateLayer};
///
/// # fn example(authlete: Authlete) {
/// let delegate = DelegateLayer::new(authlete)
///     .client_id(26_888_344_961_664)
///     .scopes(["inventory.read"])
///     .resources(["https://inventory.example.com"]);
/// # let http_client = service_fn(|_: http::Request<axum::body::Body>| async {
/// #     Ok::<_, std::convert::Infallible>(http::Response::new(axum::body::Body::empty()))
/// # });
/// let client = ServiceBuilder::new().layer(delegate).service(http_client);
/// # }
/// ```
#[derive(Clone)]
pub struct DelegateLayer {
    authlete: Authlete,
    client_id: Option<i64>,
    client_identifier: Option<String>,
    scopes: Vec<String>,
    resources: Vec<String>,
    as_service: bool,
    life: Duration,
    margin: Duration,
    clock: Clock,
}

impl DelegateLayer {
    /// A layer for calls without any scopes.
    #[must_use]
    pub fn new(authlete: Authlete) -> Self {
        Self {
            authlete,
            client_id: None,
            client_identifier: None,
            scopes: Vec::new(),
            resources: Vec::new(),
            as_service: false,
            life: Duration::from_secs(300),
            margin: Duration::from_secs(10),
            clock: Clock::system(),
        }
    }

    /// The client that calls: this server, as Authlete knows it.
    #[must_use]
    pub fn client_id(self, client_id: i64) -> Self {
        Self { client_id: Some(client_id), ..self }
    }

    /// The same by its ID, alias or entity ID.
    #[must_use]
    pub fn client_identifier(self, client_identifier: impl Into<String>) -> Self {
        Self { client_identifier: Some(client_identifier.into()), ..self }
    }

    /// The scopes that calls are made with, as far as the inbound token has them. Default: none. The
    /// service's default scopes are never used: a token that comes with them is
    /// [`Excess`](DelegateError::Excess).
    #[must_use]
    pub fn scopes(self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { scopes: scopes.into_iter().map(Into::into).collect(), ..self }
    }

    /// The resources that are called (RFC 8707). Default: none.
    #[must_use]
    pub fn resources(self, resources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { resources: resources.into_iter().map(Into::into).collect(), ..self }
    }

    /// Calls on no user's behalf but as the client itself, by the client credentials flow.
    #[must_use]
    pub fn as_service(self) -> Self {
        Self { as_service: true, ..self }
    }

    /// How long tokens live at most, in whole seconds, at least one. For so long, other services take
    /// tokens of users whose inbound token was revoked. Default: 5 minutes.
    #[must_use]
    pub fn life(self, life: Duration) -> Self {
        Self { life, ..self }
    }

    /// How long before its expiry a token is not used any more, but a quarter of its life at most, and
    /// not if it ends with the inbound token. Default: 10 s.
    #[must_use]
    pub fn margin(self, margin: Duration) -> Self {
        Self { margin, ..self }
    }

    /// The clock by which tokens expire. Default: the system's.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// What to ask for, and under which key it is kept.
    fn order(&self, keys: &KeySpace, inbound: Option<&TokenInfo>) -> Result<Order, DelegateError> {
        let mut request = TokenCreateRequest::new().resources(&self.resources);
        request.client_id = self.client_id;
        request.client_identifier.clone_from(&self.client_identifier);
        let inbound = inbound.filter(|_| !self.as_service);
        if self.as_service {
            request = request.grant_type(GrantType::ClientCredentials).scopes(&self.scopes);
        } else {
            request = self.on_behalf(inbound.ok_or(DelegateError::NoInboundToken)?, request)?;
        }
        // Whole seconds, and at least one: zero is the service's default.
        let life = Duration::from_secs(self.life.as_secs()).max(SECOND);
        let left = inbound.and_then(TokenInfo::expires_at).map(|at| {
            let left = at.duration_since(self.clock.now()).unwrap_or_default();
            Duration::from_secs(left.as_secs())
        });
        if left.is_some_and(|left| left.is_zero()) {
            return Err(DelegateError::InboundExpired);
        }
        let bounded = left.is_some_and(|left| left <= life);
        let life = left.map_or(life, |left| life.min(left));
        let key = self.key(keys, &request, inbound);
        // Some flows come with a refresh token, which nobody uses.
        let request = request.access_token_duration(life).refresh_token_duration(life);
        Ok(Order { key, request, life, bounded, inbound: inbound.cloned() })
    }

    /// The request of a token for the user of the inbound one, with no more scopes than that has.
    fn on_behalf(
        &self,
        inbound: &TokenInfo,
        request: TokenCreateRequest,
    ) -> Result<TokenCreateRequest, DelegateError> {
        let subject = inbound.subject().ok_or(DelegateError::NoSubject)?;
        let scopes = self.scopes.iter().filter(|scope| inbound.scopes().contains(scope));
        let scopes: Vec<_> = scopes.collect();
        if scopes.is_empty() && !self.scopes.is_empty() {
            return Err(DelegateError::NoScopes);
        }
        let mut request =
            request.grant_type(GrantType::TokenExchange).subject(subject).scopes(scopes);
        request.acr = inbound.acr().map(Into::into);
        match inbound.auth_time() {
            Some(at) => Ok(request.auth_time(at)),
            None => Ok(request),
        }
    }

    /// All that makes one token different from another: who calls for whom, for what, and which inbound
    /// tokens may share it. Those end at the same time, and are invalidated together.
    fn key(
        &self,
        keys: &KeySpace,
        request: &TokenCreateRequest,
        inbound: Option<&TokenInfo>,
    ) -> Key {
        let place = inbound.and_then(TokenInfo::place);
        let expires_at = inbound.and_then(TokenInfo::expires_at);
        let numbers = [
            self.client_id.unwrap_or_default(),
            request.auth_time.unwrap_or_default(),
            expires_at.map_or(0, to_millis),
            place.map_or(-1, |(_, shard)| i64::from(shard)),
            place.map_or(0, |(guard, _)| guard.id() as i64),
            request.scopes.len() as i64,
            request.resources.len() as i64,
        ]
        .map(|number| number.to_string());
        let texts = [
            if self.as_service { "service" } else { "user" },
            self.client_identifier.as_deref().unwrap_or_default(),
            request.subject.as_deref().unwrap_or_default(),
            request.acr.as_deref().unwrap_or_default(),
        ];
        let lists = request.scopes.iter().chain(&request.resources);
        let strings = numbers.iter().chain(lists).map(String::as_str);
        keys.key_of(texts.into_iter().chain(strings))
    }
}

impl fmt::Debug for DelegateLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelegateLayer")
            .field("scopes", &self.scopes)
            .field("resources", &self.resources)
            .field("as_service", &self.as_service)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for DelegateLayer {
    type Service = DelegateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let (authlete, clock) = (self.authlete.clone(), self.clock.clone());
        let tokens = Tokens::new(authlete, clock, self.life.max(SECOND), self.margin);
        let keys = KeySpace::new(&self.authlete.identity(), "create", "delegated");
        let shared = Arc::new(Shared { layer: self.clone(), keys, tokens: Arc::new(tokens) });
        DelegateService { inner, shared }
    }
}

struct Shared {
    layer: DelegateLayer,
    keys: KeySpace,
    tokens: Arc<Tokens>,
}

/// The service of [`DelegateLayer`]. Its clones share their tokens.
#[derive(Clone)]
pub struct DelegateService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S: fmt::Debug> fmt::Debug for DelegateService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelegateService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Response future of [`DelegateService`]. Its error is a [`DelegateError`] or the inner service's.
pub type DelegateFuture<R> = Pin<Box<dyn Future<Output = Result<R, BoxError>> + Send>>;

impl<S, B, ResB> Service<Request<B>> for DelegateService<S>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Default + Send + 'static,
    ResB: Send,
{
    type Response = Response<ResB>;
    type Error = BoxError;
    type Future = DelegateFuture<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, clone);
        let shared = self.shared.clone();
        Box::pin(async move { shared.call(service, request).await })
    }
}

impl Shared {
    async fn call<S, B, ResB>(
        &self,
        mut service: S,
        mut request: Request<B>,
    ) -> Result<Response<ResB>, BoxError>
    where
        S: Service<Request<B>, Response = Response<ResB>>,
        S::Error: Into<BoxError>,
        B: Body + Default,
    {
        let order = self.layer.order(&self.keys, request.extensions().get())?;
        let token = self.tokens.get(&order).await?;
        attach(&mut request, &token)?;
        let again = replayed(&request);
        let response = service.call(request).await.map_err(Into::into)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // The token may have been revoked.
        self.tokens.drop_token(&order.key, &token);
        let Some(mut request) = again else { return Ok(response) };
        let token = match self.layer.order(&self.keys, request.extensions().get()) {
            Ok(order) => self.tokens.get(&order).await,
            Err(error) => Err(error),
        };
        // Without another token, what the other service said is all there is to tell.
        let Ok(token) = token else { return Ok(response) };
        attach(&mut request, &token)?;
        std::future::poll_fn(|context| service.poll_ready(context)).await.map_err(Into::into)?;
        service.call(request).await.map_err(Into::into)
    }
}

fn attach<B>(request: &mut Request<B>, token: &Token) -> Result<(), BoxError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.value.expose()))?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}

/// The same request once more, if it has no body.
fn replayed<B: Body + Default>(request: &Request<B>) -> Option<Request<B>> {
    if !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(B::default());
    again.method_mut().clone_from(request.method());
    again.uri_mut().clone_from(request.uri());
    *again.version_mut() = request.version();
    again.headers_mut().clone_from(request.headers());
    again.extensions_mut().clone_from(request.extensions());
    Some(again)
}
