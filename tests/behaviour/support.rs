//! An API that is protected by the layer, on an emulator, with a clock that both go by.

use std::time::{Duration, UNIX_EPOCH};

use axum::{Router, body::Body, extract::Request, routing::get};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_authlete::{
    AuthHandle, AuthLayer, AuthLayerBuilder, Clock, Renderer, RequireScopes, TokenInfo,
    emulator::{Api, Emulator},
};

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
        // What is tested of retries says so.
        layer.retries(0, Duration::ZERO)
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

    /// How often `/auth/introspection` was called.
    pub(crate) fn introspections(&self) -> u64 {
        self.authlete.calls(Api::Introspection)
    }
}

/// A router with a layer around it:
///
/// | route | takes |
/// |---|---|
/// | `/` | any good token; answers with its subject |
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

/// A response that was read to its end.
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
