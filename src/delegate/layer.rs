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

use super::tokens::{DelegateError, DelegatedToken, DelegatedTokens, TokenSpec};
use crate::{
    accessors::inner_service_accessors,
    api::{Authlete, GrantType, TokenCreateRequest, document::to_millis},
    clock::Clock,
    rejection::Refuser,
    store::{Key, KeySpace},
    token::TokenInfo,
};

const SECOND: Duration = Duration::from_secs(1);

/// Attaches an access token to outbound requests. `/auth/token/create` creates it for the call, with at
/// most the rights of the inbound token.
///
/// The outbound request needs the [`TokenInfo`] of the inbound request in its extensions. The token is for
/// the same user. It has those of [`scopes`](Self::scopes) that the inbound token has too, and lives for
/// [`life`](Self::life) or until the inbound token expires, whichever is shorter, in whole seconds. If
/// Authlete creates a token with more scopes or a longer life, the token is revoked and not used. With
/// [`as_service`](Self::as_service), the token is for no user, and no `TokenInfo` is needed.
///
/// Tokens are cached until shortly before they expire, keyed by client, user, scopes, resources and inbound
/// token: at most 10 000 for each service that the layer makes. Clones of a service share them. A token in
/// use is renewed in the background. If the other service responds with 401, the token is dropped, and the
/// call is made once more if it has no body.
///
/// # Revocation of the inbound token
///
/// If this server's [`AuthHandle`](crate::AuthHandle) or endpoints forget, update or revoke the inbound
/// token, no later call uses a token that was created for it before, nor one that is just being created.
/// This needs a [`TokenInfo`] that [`AuthLayer`](crate::AuthLayer) inserted into the inbound request; one
/// made by `TokenInfo::from` belongs to no layer. Tokens that other services have received already stay
/// valid for at most `life` (5 minutes by default), since they are not revoked at Authlete.
///
/// If the inbound token is revoked elsewhere, this server learns of it within the layer's
/// [`max_age`](crate::layer::AuthLayerBuilder::max_age). A token that is created just before that expires `life`
/// later, so that other services accept calls for at most `max_age` and `life` together: 6 minutes by
/// default.
///
/// A `TokenInfo` holds the facts at the time at which its request was admitted. Code that keeps one beyond
/// its request can make calls until the inbound token's expiry, even if that is revoked elsewhere.
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
    /// A layer that requests tokens without scopes.
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

    /// The ID of the client that this server is at Authlete. This or
    /// [`client_identifier`](Self::client_identifier) is required.
    #[must_use]
    pub fn client_id(self, client_id: i64) -> Self {
        Self { client_id: Some(client_id), ..self }
    }

    /// The ID, alias or entity ID of the client that this server is at Authlete.
    #[must_use]
    pub fn client_identifier(self, client_identifier: impl Into<String>) -> Self {
        Self { client_identifier: Some(client_identifier.into()), ..self }
    }

    /// The scopes of tokens, as far as the inbound token has them. If it has none of them, the call fails
    /// with [`NoScopes`](DelegateError::NoScopes). Default: none. Default scopes of the Authlete service
    /// are never used: a token that has any is [`Excess`](DelegateError::Excess).
    #[must_use]
    pub fn scopes(self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { scopes: scopes.into_iter().map(Into::into).collect(), ..self }
    }

    /// The resources that tokens are for (RFC 8707). Default: none.
    #[must_use]
    pub fn resources(self, resources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { resources: resources.into_iter().map(Into::into).collect(), ..self }
    }

    /// Uses tokens of the client itself (client credentials flow), not of a user. Default: off.
    #[must_use]
    pub fn as_service(self) -> Self {
        Self { as_service: true, ..self }
    }

    /// The longest life of a token, in whole seconds (fractions are cut off), at least one. Other services
    /// accept a token for so long after the inbound token was revoked. Default: 5 minutes.
    #[must_use]
    pub fn life(self, life: Duration) -> Self {
        Self { life, ..self }
    }

    /// How long before its expiry a token is not used any more: at most a quarter of its life, and 0 if it
    /// expires together with the inbound token. Default: 10 s.
    #[must_use]
    pub fn margin(self, margin: Duration) -> Self {
        Self { margin, ..self }
    }

    /// The clock by which expiry is judged. Default: the system's.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The token that an outbound request needs.
    fn token_spec(
        &self,
        keys: &KeySpace,
        inbound: Option<&TokenInfo>,
    ) -> Result<TokenSpec, DelegateError> {
        let mut request = TokenCreateRequest::new().resources(&self.resources);
        request.client_id = self.client_id;
        request.client_identifier.clone_from(&self.client_identifier);
        let inbound = inbound.filter(|_| !self.as_service);
        if self.as_service {
            request = request.grant_type(GrantType::ClientCredentials).scopes(&self.scopes);
        } else {
            request = self.on_behalf(inbound.ok_or(DelegateError::NoInboundToken)?, request)?;
        }
        // At least 1 s, since 0 stands for the service's default.
        let life = Duration::from_secs(self.life.as_secs()).max(SECOND);
        let left = inbound.and_then(TokenInfo::expires_at).map(|at| {
            let left = at.duration_since(self.clock.now()).unwrap_or_default();
            Duration::from_secs(left.as_secs())
        });
        if left.is_some_and(|left| left.is_zero()) {
            return Err(DelegateError::InboundExpired);
        }
        let expires_with_inbound = left.is_some_and(|left| left <= life);
        let life = left.map_or(life, |left| life.min(left));
        let key = self.key(keys, &request, inbound);
        // Some flows come with a refresh token. It is not used.
        let request = request.access_token_duration(life).refresh_token_duration(life);
        Ok(TokenSpec { key, request, life, expires_with_inbound, inbound: inbound.cloned() })
    }

    /// Completes the request of a token for the user of the inbound one, with at most its scopes.
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

    /// The cache key of a token: client, user, scopes, resources, and the inbound token, with which it is
    /// invalidated.
    fn key(
        &self,
        keys: &KeySpace,
        request: &TokenCreateRequest,
        inbound: Option<&TokenInfo>,
    ) -> Key {
        let origin = inbound.and_then(|token| Refuser::of(token).zip(token.key()));
        let (layer, token) = origin.map_or((0, [0; 4]), |(refuser, key)| {
            (refuser.id() as i64, key.words().map(u64::cast_signed))
        });
        let expires_at = inbound.and_then(TokenInfo::expires_at);
        let numbers = [
            self.client_id.unwrap_or_default(),
            request.auth_time.unwrap_or_default(),
            expires_at.map_or(0, to_millis),
            layer,
            token[0],
            token[1],
            token[2],
            token[3],
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
        let tokens = DelegatedTokens::new(authlete, clock, self.life.max(SECOND), self.margin);
        let keys = KeySpace::new(&self.authlete.service(), "delegated");
        let state = DelegateState { layer: self.clone(), keys, tokens: Arc::new(tokens) };
        DelegateService { inner, state: Arc::new(state) }
    }
}

/// What the clones of a [`DelegateService`] share.
struct DelegateState {
    layer: DelegateLayer,
    keys: KeySpace,
    tokens: Arc<DelegatedTokens>,
}

/// The service of [`DelegateLayer`]. Clones share their tokens.
#[derive(Clone)]
pub struct DelegateService<S> {
    inner: S,
    state: Arc<DelegateState>,
}

impl<S> DelegateService<S> {
    inner_service_accessors!();
}

impl<S: fmt::Debug> fmt::Debug for DelegateService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelegateService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Response future of [`DelegateService`]. Its error is a [`DelegateError`] if there is no token, else the
/// inner service's.
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
        let state = self.state.clone();
        Box::pin(async move { state.call(service, request).await })
    }
}

impl DelegateState {
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
        let spec = self.layer.token_spec(&self.keys, request.extensions().get())?;
        let token = self.tokens.get(&spec).await?;
        attach(&mut request, &token)?;
        let retry = retry_of(&request);
        let response = service.call(request).await.map_err(Into::into)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // The token may have been revoked at Authlete.
        self.tokens.discard(&spec.key, &token);
        let Some(mut request) = retry else { return Ok(response) };
        let token = match self.layer.token_spec(&self.keys, request.extensions().get()) {
            Ok(spec) => self.tokens.get(&spec).await,
            Err(error) => Err(error),
        };
        // Without another token, the response of the other service is the result.
        let Ok(token) = token else { return Ok(response) };
        attach(&mut request, &token)?;
        std::future::poll_fn(|context| service.poll_ready(context)).await.map_err(Into::into)?;
        service.call(request).await.map_err(Into::into)
    }
}

fn attach<B>(request: &mut Request<B>, token: &DelegatedToken) -> Result<(), BoxError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.value.expose()))?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}

/// A copy of the request, if it has no body.
fn retry_of<B: Body + Default>(request: &Request<B>) -> Option<Request<B>> {
    if !request.body().is_end_stream() {
        return None;
    }
    let mut retry = Request::new(B::default());
    retry.method_mut().clone_from(request.method());
    retry.uri_mut().clone_from(request.uri());
    *retry.version_mut() = request.version();
    retry.headers_mut().clone_from(request.headers());
    retry.extensions_mut().clone_from(request.extensions());
    Some(retry)
}
