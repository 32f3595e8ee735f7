//! What the layer costs: a hit, a miss and a refusal, beside the same service without it.
//!
//! ```sh
//! cargo bench --features emulator
//! ```
//!
//! Compare the rows of one run with each other: figures of different runs or machines say little.

use std::{convert::Infallible, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};
use tower_authlete::{AuthLayer, RequireScopes, TokenInfo, emulator::Emulator};

async fn handler(request: Request<()>) -> Result<Response<()>, Infallible> {
    black_box(request.extensions().get::<TokenInfo>());
    Ok(Response::new(()))
}

fn request(token: &str) -> Request<()> {
    let request = Request::builder().uri("/reports").header("accept", "application/json");
    let request = request.header("authorization", format!("Bearer {token}"));
    request.body(()).unwrap_or_else(|error| panic!("a request that is not legal: {error}"))
}

/// One request through a service, request and response included.
macro_rules! row {
    ($group:ident, $name:literal, $runtime:ident, $service:ident, $request:ident) => {
        $group.bench_function($name, |bencher| {
            bencher.to_async(&$runtime).iter_batched(
                || $request.clone(),
                |request| {
                    let mut service = $service.clone();
                    async move { service.call(request).await }
                },
                criterion::BatchSize::SmallInput,
            );
        });
    };
}

fn check(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap_or_else(|error| panic!("no runtime: {error}"));
    let emulator = runtime.block_on(Emulator::start());
    let token = emulator.token().subject("alice").scopes(["reports.read", "profile"]);
    let token = runtime.block_on(token.property("plan", "gold").issue());

    let bare = service_fn(handler);
    let auth = AuthLayer::new(emulator.authlete());
    let cached = auth.layer(service_fn(handler));
    let scoped = auth.layer(RequireScopes::all(["reports.read"]).layer(service_fn(handler)));
    let forbidden = auth.layer(RequireScopes::all(["reports.write"]).layer(service_fn(handler)));
    let fresh = auth.no_cache().layer(service_fn(handler));

    let good = request(&token);
    let bad = request("rubbish");
    let none = Request::new(());
    // What is measured as known has to be known.
    for request in [&good, &bad] {
        let _ = runtime.block_on(cached.clone().call(request.clone()));
    }

    let mut group = criterion.benchmark_group("check");
    row!(group, "bare service", runtime, bare, good);
    row!(group, "hit", runtime, cached, good);
    row!(group, "hit with scopes", runtime, scoped, good);
    row!(group, "refusal: scopes", runtime, forbidden, good);
    row!(group, "refusal: known bad token", runtime, cached, bad);
    row!(group, "refusal: no credentials", runtime, cached, none);
    row!(group, "miss (emulator)", runtime, fresh, good);
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
