//! A hit allocates only what the request's extensions need; invalidated entries are freed.
#![cfg(feature = "emulator")]

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use tower::{Layer, Service, service_fn};
use tower_authlete::{
    AuthLayer, Authlete, CachePolicy, Properties, RequireScopes, Scopes, TokenInfo,
    emulator::Emulator,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

async fn inner(request: Request<()>) -> Result<Response<()>, Infallible> {
    assert!(request.extensions().get::<TokenInfo>().is_some());
    Ok(Response::new(()))
}

/// The output of a future that is immediately ready.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a cached check waits for something"),
    }
}

/// How many allocations a hit makes, and how many bytes.
fn of_a_hit(
    runtime: &tokio::runtime::Runtime,
    value: &str,
    facts: usize,
    alone: bool,
) -> (usize, usize) {
    let _guard = runtime.enter();
    let authlete = runtime.block_on(Emulator::start());
    let scopes = (0..facts).map(|number| format!("scope-{number}"));
    let token = authlete.token().value(value).scopes(scopes).subject("s".repeat(facts));
    let token = (0..facts)
        .fold(token, |token, number| token.property(format!("key-{number}"), "v".repeat(facts)));
    runtime.block_on(token.issue());
    let auth = AuthLayer::builder(authlete.authlete()).require(RequireScopes::all(["scope-0"]));
    let auth = if alone { auth.token_info_alone() } else { auth };
    let mut service = auth.build().unwrap().layer(service_fn(inner));
    let request = || {
        let request = Request::builder().header("authorization", format!("Bearer {value}"));
        request.body(()).unwrap()
    };
    runtime.block_on(service.call(request())).unwrap();
    // Until the token is cached.
    (0..3).for_each(|_| drop(ready(service.call(request()))));
    let request = request();
    let region = Region::new(ALLOCATOR);
    let response = ready(service.call(request));
    let stats = region.change();
    drop(response);
    (stats.allocations, stats.bytes_allocated)
}

/// How many allocations it makes to put the three types into an empty map.
fn of_extensions() -> (usize, usize) {
    let token = TokenInfo::from(&tower_authlete::api::IntrospectionResponse::default());
    let (scopes, properties) = (Scopes::default(), Properties::default());
    let mut request = Request::new(());
    let region = Region::new(ALLOCATOR);
    request.extensions_mut().insert(scopes);
    request.extensions_mut().insert(properties);
    request.extensions_mut().insert(token);
    let stats = region.change();
    (stats.allocations, stats.bytes_allocated)
}

/// How much more is held after many large tokens than before, when all were forgotten (bytes).
fn of_forgotten_tokens(runtime: &tokio::runtime::Runtime) -> isize {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let authlete = service_fn(|_| {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let property = json!({ "key": format!("key-{number}"), "value": "v".repeat(200_000) });
        let answer = json!({ "action": "OK", "clientId": number + 1, "properties": [property] });
        let response = Response::new(Full::new(Bytes::from(answer.to_string())));
        async { Ok::<_, Infallible>(response) }
    });
    let authlete = Authlete::builder()
        .base_url("http://localhost")
        .service_id("1")
        .service_access_token("service")
        .transport(authlete)
        .build();
    let auth = AuthLayer::builder(authlete.unwrap())
        .cache(CachePolicy::new().max_entries(1))
        .build()
        .unwrap();
    let mut service = auth.layer(service_fn(inner));
    let mut get = |number: u64| {
        let request = Request::builder().header("authorization", format!("Bearer token-{number}"));
        runtime.block_on(service.call(request.body(()).unwrap())).unwrap();
    };
    get(0);
    auth.handle().forget_all();
    let region = Region::new(ALLOCATOR);
    (1..=60).for_each(get);
    auth.handle().forget_all();
    let stats = region.change();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

// One test, since allocations of concurrent tests would be counted too.
#[test]
fn a_hit_allocates_what_its_extensions_need_and_what_is_forgotten_is_freed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(of_a_hit(&runtime, &"t".repeat(43), 1, true).0, 3);
    let expected = of_extensions();
    assert_eq!(expected.0, 5);
    for (length, facts) in [(43, 1), (43, 50), (8000, 1)] {
        assert_eq!(
            of_a_hit(&runtime, &"t".repeat(length), facts, false),
            expected,
            "{length} {facts}"
        );
    }
    let held = of_forgotten_tokens(&runtime);
    assert!(held < 200_000, "{held} bytes of tokens that were forgotten");
}
