//! Nodes of a fleet: layers in this process that know of each other by Redis alone.

use std::time::{Duration, UNIX_EPOCH};

use axum::{Router, body::Body, extract::Request, response::Response, routing::get};
use http::{StatusCode, header::AUTHORIZATION};
use tower::ServiceExt;
use tower_authlete::{
    AuthHandle, AuthLayer, Authlete, TokenInfo,
    clock::Clock,
    emulator::{Api, Emulator},
    fleet::{Fleet, FleetBuilder},
    layer::AuthLayerBuilder,
};

use crate::servers::{Redis, eventually};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) const OK: StatusCode = StatusCode::OK;
pub(crate) const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;

/// An Authlete and a clock that all nodes share.
pub(crate) struct Bench {
    pub(crate) authlete: Emulator,
    pub(crate) clock: Clock,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let clock = Clock::frozen(UNIX_EPOCH + Duration::from_secs(2_000_000_000));
        // Times of Authlete's tokens are the clock's; those of Redis are its own.
        let authlete = Emulator::builder().clock(clock.clone()).start().await.unwrap();
        Self { authlete, clock }
    }

    pub(crate) async fn token(&self) -> String {
        self.authlete.token().subject("alice").scopes(["read"]).issue().await
    }

    /// How often Authlete was asked about tokens.
    pub(crate) fn checks(&self) -> u64 {
        self.authlete.calls(Api::Introspection)
    }

    pub(crate) async fn node(&self, redis: &Redis) -> Node {
        self.node_at(redis.url()).await
    }

    pub(crate) async fn node_at(&self, url: &str) -> Node {
        self.node_with(Fleet::redis(url), |layer| layer).await
    }

    /// A node that is connected.
    pub(crate) async fn node_with(
        &self,
        fleet: FleetBuilder,
        settings: impl FnOnce(AuthLayerBuilder) -> AuthLayerBuilder,
    ) -> Node {
        let fleet = fleet.secret(SECRET).connect().await.unwrap();
        let node = self.node_of(fleet, settings);
        node.is_connected().await;
        // What is known since the moment of the connection is in doubt.
        self.clock.advance(Duration::from_millis(1));
        node
    }

    pub(crate) fn node_of(
        &self,
        fleet: Fleet,
        settings: impl FnOnce(AuthLayerBuilder) -> AuthLayerBuilder,
    ) -> Node {
        let layer = AuthLayer::builder(self.authlete.authlete()).clock(self.clock.clone());
        Node::new(settings(layer.fleet(fleet)))
    }

    /// A node with this client of Authlete.
    pub(crate) fn node_by(&self, authlete: Authlete, fleet: Fleet) -> Node {
        Node::new(AuthLayer::builder(authlete).clock(self.clock.clone()).fleet(fleet))
    }
}

/// A process, as it were.
pub(crate) struct Node {
    pub(crate) handle: AuthHandle,
    app: Router,
}

impl Node {
    fn new(layer: AuthLayerBuilder) -> Self {
        let auth = layer.build().unwrap();
        let hello =
            |token: TokenInfo| async move { token.subject().unwrap_or_default().to_owned() };
        let app = Router::new().route("/", get(hello)).layer(auth.clone());
        Self { handle: auth.handle().clone(), app }
    }

    pub(crate) async fn get(&self, token: &str) -> StatusCode {
        let request = Request::get("/").header(AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request) -> StatusCode {
        self.respond(request).await.status()
    }

    pub(crate) async fn respond(&self, request: Request) -> Response {
        self.app.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn is_connected(&self) {
        self.health(false).await;
    }

    pub(crate) async fn is_isolated(&self) {
        self.health(true).await;
    }

    async fn health(&self, isolated: bool) {
        eventually(async || match self.handle.health().is_isolated == isolated {
            true => Ok(()),
            false => Err(format!("isolated: {}", !isolated)),
        })
        .await;
    }

    /// Waits until the token has this status here.
    pub(crate) async fn answers(&self, token: &str, status: StatusCode) {
        eventually(async || match self.get(token).await {
            got if got == status => Ok(()),
            got => Err(got.to_string()),
        })
        .await;
    }
}
