//! An API behind the layer, and an emulator. Both use the same clock.

use std::{
    sync::mpsc,
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    routing::get,
};
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_authlete::{
    AuthHandle, AuthLayer, AuthLayerBuilder, Clock, ConfigError, Renderer, RequireScopes, Rotation,
    TokenInfo,
    api::{IntrospectionRequest, TokenRevokeRequest},
    emulator::{Api, Emulator, Hold},
    resilience::{Resilience, Retry},
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// The public origin of the API.
pub(crate) const ORIGIN: &str = "https://api.example.com";

/// The header with a token's new value.
pub(crate) const NEW: HeaderName = HeaderName::from_static("x-new-token");

pub(crate) const OK: StatusCode = StatusCode::OK;
pub(crate) const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
pub(crate) const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

pub(crate) struct Bench {
    pub(crate) authlete: Emulator,
    pub(crate) clock: Clock,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let clock = Clock::frozen(UNIX_EPOCH + Duration::from_secs(2_000_000_000));
        let authlete = Emulator::builder().clock(clock.clone()).start().await.unwrap();
        Self { authlete, clock }
    }

    /// Settings of a layer.
    pub(crate) fn layer(&self) -> AuthLayerBuilder {
        let layer = AuthLayer::builder(self.authlete.authlete()).clock(self.clock.clone());
        layer.resilience(resilience())
    }

    /// An API behind a layer with the default settings.
    pub(crate) fn api(&self) -> Protected {
        self.api_with(|layer| layer)
    }

    /// An API behind a layer with these settings.
    pub(crate) fn api_with<R: Renderer<Body>>(
        &self,
        settings: impl FnOnce(AuthLayerBuilder) -> AuthLayerBuilder<R>,
    ) -> Protected {
        Protected::new(&settings(self.layer()).build().unwrap())
    }

    /// An API whose calls to Authlete have a short deadline.
    pub(crate) fn api_with_short_deadline(
        &self,
        settings: impl FnOnce(AuthLayerBuilder) -> AuthLayerBuilder,
    ) -> Protected {
        let authlete = self.authlete.client_builder().deadline(SECOND / 5).build().unwrap();
        let layer = AuthLayer::builder(authlete).clock(self.clock.clone());
        Protected::new(&settings(layer).build().unwrap())
    }

    /// How often `/auth/introspection` was called.
    pub(crate) fn introspections(&self) -> u64 {
        self.authlete.calls(Api::Introspection)
    }

    /// How often `/auth/token/update` was called.
    pub(crate) fn updates(&self) -> u64 {
        self.authlete.calls(Api::TokenUpdate)
    }

    /// Revokes all tokens of the emulator's client, as another server does, and returns their number.
    pub(crate) async fn revoke_all(&self) -> i64 {
        let client = self.authlete.client_id().to_string();
        let all = TokenRevokeRequest::new().client_identifier(client);
        self.authlete.authlete().token_revoke(&all).await.unwrap().count.unwrap()
    }

    /// Makes calls as another server, so that calls that were started before have been made.
    pub(crate) async fn let_others_call(&self) {
        let other = self.authlete.authlete();
        for _ in 0..50 {
            other.introspection(&IntrospectionRequest::new().token("other")).await.unwrap();
        }
    }
}

/// The names of the settings that are wrong.
pub(crate) fn wrong_settings(error: &ConfigError) -> Vec<&str> {
    error.iter().map(|it| it.setting()).collect()
}

/// No retries: tests of those turn them on.
pub(crate) fn resilience() -> Resilience {
    Resilience::new().retry(Retry::disabled())
}

/// Rotation after 20 s, with the new value in [`NEW`].
pub(crate) fn rotation() -> Rotation {
    Rotation::in_header(NEW).every(20 * SECOND)
}

/// An API, and a token of which the next use causes a rotation.
pub(crate) async fn due(bench: &Bench, rotation: Rotation) -> (Protected, String) {
    let api = bench.api_with(|layer| layer.rotate(rotation));
    let token = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
    let answer = api.get(&token).await;
    assert_eq!((answer.status, answer.header(NEW)), (OK, ""));
    bench.clock.advance(20 * SECOND);
    (api, token)
}

/// Until it is dropped, tokio does not advance its paused clock.
pub(crate) fn stop_auto_advance() -> mpsc::Sender<()> {
    let (keep, blocked) = mpsc::channel();
    tokio::task::spawn_blocking(move || blocked.recv());
    keep
}

/// The response to a request that must be complete.
pub(crate) async fn finished(request: JoinHandle<Answer>) -> Answer {
    let_tasks_run().await;
    assert!(request.is_finished(), "it is still waiting");
    request.await.unwrap()
}

/// Lets the tasks of this thread run.
pub(crate) async fn let_tasks_run() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

/// A router with a layer around it:
///
/// | route | requires |
/// |---|---|
/// | `/` | any valid token; responds with its subject |
/// | `/read`, `/write` | the scope of that name |
#[derive(Clone)]
pub(crate) struct Protected {
    pub(crate) router: Router,
    pub(crate) handle: AuthHandle,
}

impl Protected {
    pub(crate) fn new<R: Renderer<Body>>(auth: &AuthLayer<R>) -> Self {
        let router = Router::new()
            .route("/", get(subject))
            .route("/read", get(subject).route_layer(RequireScopes::all(["read"])))
            .route("/write", get(subject).route_layer(RequireScopes::all(["write"])))
            .layer(auth.clone());
        Self { router, handle: auth.handle() }
    }

    /// These routes behind a layer.
    pub(crate) fn with_routes<R: Renderer<Body>>(auth: &AuthLayer<R>, routes: Router) -> Self {
        Self { router: routes.layer(auth.clone()), handle: auth.handle() }
    }

    /// A layer inside another one.
    pub(crate) fn nested(outer: &AuthLayer, inner: &AuthLayer) -> Self {
        Self::with_routes(outer, Self::new(inner).router)
    }

    /// A layer inside another one. `between` runs for each request between them.
    pub(crate) fn nested_with<F: Future<Output = ()> + Send + 'static>(
        outer: &AuthLayer,
        inner: &AuthLayer,
        between: impl Fn() -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let between = middleware::from_fn(move |request: Request, next: Next| {
            let first = between();
            async move {
                first.await;
                next.run(request).await
            }
        });
        Self::with_routes(outer, Self::new(inner).router.layer(between))
    }

    /// `GET /` with a token, in a task of its own.
    pub(crate) fn spawn_get(&self, token: &str) -> JoinHandle<Answer> {
        let (api, token) = (self.clone(), token.to_owned());
        tokio::spawn(async move { api.get(&token).await })
    }

    /// `GET /` with a token. Its introspection has arrived, and its response is held back.
    pub(crate) async fn held(&self, bench: &Bench, token: &str) -> (Hold, JoinHandle<Answer>) {
        let call = bench.introspections() + 1;
        let hold = bench.authlete.hold(Api::Introspection);
        let request = self.spawn_get(token);
        bench.authlete.arrived(Api::Introspection, call).await;
        (hold, request)
    }

    /// Waits until no call to Authlete is in flight.
    pub(crate) async fn is_idle(&self) {
        while self.handle.health().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// `GET /` with a token.
    pub(crate) async fn get(&self, token: &str) -> Answer {
        self.get_at("/", token).await
    }

    pub(crate) async fn get_at(&self, path: &str, token: &str) -> Answer {
        self.send_at(path, &[("authorization", &format!("Bearer {token}"))]).await
    }

    /// `GET /` with these headers.
    pub(crate) async fn send(&self, headers: &[(&str, &str)]) -> Answer {
        self.send_at("/", headers).await
    }

    pub(crate) async fn send_at(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers
            .iter()
            .fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        send(self.router.clone(), request.body(Body::empty()).unwrap()).await
    }
}

pub(crate) async fn send(router: Router, request: Request) -> Answer {
    Answer::of(router.oneshot(request).await.unwrap()).await
}

async fn subject(token: Option<TokenInfo>) -> String {
    let subject = token.as_ref().and_then(|token| token.subject());
    subject.unwrap_or("nobody").to_owned()
}

/// A complete response.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn of(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Self { status: head.status, headers: head.headers, body }
    }

    /// The challenge; empty if there is none.
    pub(crate) fn challenge(&self) -> &str {
        self.header(header::WWW_AUTHENTICATE)
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
