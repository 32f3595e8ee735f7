//! The service that was polled ready is the one that is called.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_authlete::{AuthLayer, Require, emulator::Api};

use crate::support::Bench;

/// Panics if it is called before it was polled ready. Clones start as not ready.
#[derive(Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        ready(Ok(Response::new(())))
    }
}

fn request(token: &str) -> Request<()> {
    Request::builder().header("authorization", format!("Bearer {token}")).body(()).unwrap()
}

#[tokio::test]
async fn a_service_is_called_when_it_was_polled_ready_on_a_miss_and_on_a_hit() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().scopes(["read"]).issue().await;
    let mut service = ServiceBuilder::new()
        .layer(bench.layer().optional().build().unwrap())
        .layer(Require::scopes(["read"]))
        .service(Strict::default());
    for (request, status) in [
        (request(&token), StatusCode::OK),
        (request(&token), StatusCode::OK),
        (request("rubbish"), StatusCode::UNAUTHORIZED),
        (Request::new(()), StatusCode::UNAUTHORIZED),
        (request(&token), StatusCode::OK),
    ] {
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn a_concurrency_limit_works_inside_and_outside() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().issue().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let limit = ConcurrencyLimitLayer::new(1);
    let inner = limit.layer(Strict::default());
    let inside = auth.layer(inner);
    let outside = limit.layer(auth.layer(Strict::default()));
    for _ in 0..3 {
        let mut service = inside.clone();
        let response = service.ready().await.unwrap().call(request(&token)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut service = outside.clone();
        let response = service.ready().await.unwrap().call(request(&token)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_request_that_goes_away_while_it_waits_gives_its_place_back() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().issue().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let mut service = auth.layer(ConcurrencyLimitLayer::new(1).layer(Strict::default()));
    let hold = bench.authlete.hold(Api::Introspection);
    let waiting = tokio::spawn(service.ready().await.unwrap().call(request(&token)));
    bench.authlete.arrived(Api::Introspection, 1).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    hold.release();
    let response = service.ready().await.unwrap().call(request(&token)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}
