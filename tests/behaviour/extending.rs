//! Tokens in use are extended, and no others.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use axum::{Router, routing::get};
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use serde_json::json;
use tower::{Layer, Service, ServiceExt};
use tower_authlete::{
    AuthLayer, CachePolicy, Require, TokenInfo,
    api::{IntrospectionRequest, RequestBody, TokenUpdateRequest},
    emulator::{Api, Fault},
    layer::AuthLayerBuilder,
    lifecycle::ExtendLifetime,
    resilience::{Breaker, Retry},
};

use crate::{
    support::{
        Bench, NEW, OK, Protected, SECOND, UNAUTHORIZED, UNAVAILABLE, resilience, rotation,
        wrong_settings,
    },
    transports::{Gate, transport},
};

/// Extension below 10 s to 30 s, up to a life of 100 s.
fn extension() -> ExtendLifetime {
    ExtendLifetime::new().when_below(10 * SECOND).to(30 * SECOND).never_beyond(100 * SECOND)
}

fn extending(layer: AuthLayerBuilder) -> AuthLayerBuilder {
    layer.extend_lifetime(extension().wait())
}

impl Bench {
    /// The remaining life (s) of a token at Authlete.
    async fn left(&self, token: &str) -> u64 {
        let request = IntrospectionRequest::new().token(token);
        let response = self.authlete.authlete().introspection(&request).await.unwrap();
        let left = response.expires_at().map(|at| at.duration_since(self.clock.now()).unwrap());
        left.unwrap_or_default().as_secs()
    }
}

#[tokio::test]
async fn a_token_with_little_left_is_extended_and_others_are_not() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let short = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    let long = bench.authlete.token().expires_in(10 * SECOND).issue().await;
    let persistent = bench.authlete.token().persistent().issue().await;
    for token in [&short, &long, &persistent] {
        assert_eq!(api.get(token).await.status, OK);
    }
    assert_eq!(bench.updates(), 1);
    assert_eq!((bench.left(&short).await, bench.left(&long).await), (30, 10));
}

#[tokio::test]
async fn the_new_expiry_is_cached() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    api.get(&token).await;
    // Beyond the first expiry, which the cache knows to be extended.
    bench.clock.advance(10 * SECOND);
    assert_eq!(api.get(&token).await.status, OK);
    assert_eq!((bench.introspections(), bench.updates()), (1, 1));
}

#[tokio::test]
async fn a_token_in_use_is_extended_and_an_unused_one_expires() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let used = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    let left_alone = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    for _ in 0..10 {
        assert_eq!(api.get(&used).await.status, OK);
        // A hit below the threshold starts a call in the background.
        let before = bench.updates();
        bench.clock.advance(8 * SECOND);
        if bench.left(&used).await < 10 {
            assert_eq!(api.get(&used).await.status, OK);
            bench.authlete.arrived(Api::TokenUpdate, before + 1).await;
        }
        if bench.clock.now() > UNIX_EPOCH + 2_000_000_060 * SECOND {
            break;
        }
    }
    assert_eq!(api.get(&left_alone).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_is_never_extended_beyond_its_longest_life() {
    for by_authentication in [false, true] {
        let bench = Bench::new().await;
        let begin = bench.clock.now();
        // Without caching, every request makes a call of its own.
        let api = bench.api_with(|layer| extending(layer).cache(CachePolicy::disabled()));
        let token = bench.authlete.token().expires_in(9 * SECOND);
        let token = if by_authentication { token.auth_time(begin - 50 * SECOND) } else { token };
        let token = token.issue().await;
        let mut lived = 0;
        while api.get(&token).await.status == OK && lived < 500 {
            bench.clock.advance(5 * SECOND);
            lived += 5;
        }
        assert_eq!(lived, if by_authentication { 50 } else { 100 });
    }
}

#[tokio::test]
async fn an_expired_token_is_never_extended() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.extend_lifetime(extension()));
    let token = bench.authlete.token().expires_in(20 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    // Another server shortens it; by the cached facts 5 s are left.
    bench.clock.advance(15 * SECOND);
    bench.authlete.revoke(&token);
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.arrived(Api::Introspection, 2).await;
    // The call in the background finds that out, and the token is invalidated.
    let mut status = OK;
    for _ in 0..10_000 {
        status = api.get(&token).await.status;
        if status != OK {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(status, UNAUTHORIZED);
    assert_eq!(bench.updates(), 0);
}

#[tokio::test]
async fn a_request_does_not_wait_for_an_extension_unless_that_is_set() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.extend_lifetime(extension()));
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    assert_eq!(api.get(&token).await.status, OK);
    hold.release();
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn many_requests_make_one_extension() {
    let bench = Bench::new().await;
    for layer in [extension(), extension().wait()] {
        let api = bench.api_with(|settings| settings.extend_lifetime(layer));
        let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        let before = bench.updates();
        let answers = join_all((0..50).map(|_| api.get(&token))).await;
        assert!(answers.iter().all(|answer| answer.status == OK));
        bench.authlete.arrived(Api::TokenUpdate, before + 1).await;
        join_all((0..50).map(|_| api.get(&token))).await;
        assert_eq!(bench.updates(), before + 1);
    }
}

#[tokio::test]
async fn an_extension_that_fails_refuses_no_request_and_is_retried_later() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    bench.authlete.fault(Fault::status(500).on(Api::TokenUpdate));
    for _ in 0..5 {
        assert_eq!(api.get(&token).await.status, OK);
    }
    assert_eq!((bench.introspections(), bench.updates()), (1, 1));
    // Later it is retried.
    bench.authlete.clear_faults();
    bench.clock.advance(3 * SECOND);
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.arrived(Api::TokenUpdate, 2).await;
}

#[tokio::test]
async fn a_token_that_the_extension_does_not_find_is_invalidated() {
    for action in ["NOT_FOUND", "FORBIDDEN"] {
        let bench = Bench::new().await;
        let api = bench.api_with(extending);
        let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        let body = json!({ "action": action }).to_string();
        bench.authlete.fault(Fault::body(body).on(Api::TokenUpdate));
        assert_eq!(api.get(&token).await.status, UNAUTHORIZED, "{action}");
    }
}

#[tokio::test]
async fn which_tokens_are_extended_can_be_chosen() {
    let bench = Bench::new().await;
    let chosen = extension().wait().when(|token| token.scopes().contains("session"));
    let api = bench.api_with(|layer| layer.extend_lifetime(chosen));
    let session = bench.authlete.token().scopes(["session"]).expires_in(5 * SECOND).issue().await;
    let other = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    api.get(&session).await;
    api.get(&other).await;
    assert_eq!((bench.left(&session).await, bench.left(&other).await), (30, 5));
}

#[tokio::test]
async fn wrong_settings_of_extensions_are_refused() {
    let bench = Bench::new().await;
    for (extension, name) in [
        (extension().when_below(Duration::ZERO), "extend_lifetime.when_below"),
        (extension().to(10 * SECOND), "extend_lifetime.to"),
        (extension().never_beyond(SECOND), "extend_lifetime.never_beyond"),
    ] {
        let error = bench.layer().extend_lifetime(extension).build().unwrap_err();
        assert_eq!(wrong_settings(&error), [name]);
    }
}

#[tokio::test]
async fn an_answer_from_before_an_extension_is_used_after_it() {
    let bench = Bench::new().await;
    let auth = bench.layer().extend_lifetime(extension().wait()).build().unwrap();
    let (cached, fresh) = (Protected::new(&auth), Protected::new(&auth.bypass_cache()));
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    let update = bench.authlete.hold(Api::TokenUpdate);
    let extends = cached.spawn_get(&token);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    let introspection = bench.authlete.hold(Api::Introspection);
    let asks = fresh.spawn_get(&token);
    bench.authlete.arrived(Api::Introspection, 2).await;
    update.release();
    assert_eq!(extends.await.unwrap().status, OK);
    introspection.release();
    assert_eq!(asks.await.unwrap().status, OK);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_token_that_is_refused_by_the_layer_is_not_extended() {
    for waits in [false, true] {
        let extension = || if waits { extension().wait() } else { extension() };
        let bench = Bench::new().await;
        let layer =
            bench.layer().extend_lifetime(extension()).require(Require::audience(["https://us"]));
        let api = Protected::new(&layer.build().unwrap());
        let for_others = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        let bound = bench.authlete.token().resources(["https://us"]).expires_in(5 * SECOND);
        let bound = bound.certificate_thumbprint("abc").issue().await;
        // Introspected first, then known.
        for _ in 0..2 {
            assert_eq!(api.get(&for_others).await.status, UNAUTHORIZED);
            assert_eq!(api.get(&bound).await.status, UNAUTHORIZED);
        }
        assert_eq!((bench.left(&for_others).await, bench.updates()), (5, 0), "{waits}");
    }
}

#[tokio::test]
async fn a_token_that_the_layer_would_refuse_by_its_introspection_is_not_extended() {
    for waits in [false, true] {
        let extension = || if waits { extension().wait() } else { extension() };
        let bench = Bench::new().await;
        let layer = bench.layer().extend_lifetime(extension()).require(Require::scopes(["read"]));
        let api = Protected::new(&layer.build().unwrap());
        let token = bench.authlete.token().scopes(["read"]).expires_in(15 * SECOND).issue().await;
        assert_eq!(api.get(&token).await.status, OK);
        let none = TokenUpdateRequest::new().scopes(Vec::<String>::new());
        let none = none.access_token(token.as_str());
        bench.authlete.authlete().token_update(&none).await.unwrap();
        bench.clock.advance(6 * SECOND);
        // It may be used by what is cached, which is introspected for the extension.
        while api.get(&token).await.status == OK {
            tokio::task::yield_now().await;
        }
        assert_eq!(api.get(&token).await.status, StatusCode::FORBIDDEN);
        assert_eq!((bench.left(&token).await, bench.updates()), (9, 1), "{waits}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_by_a_route_is_not_extended() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.extend_lifetime(extension()));
    let token = bench.authlete.token().scopes(["read"]).expires_in(5 * SECOND).issue().await;
    for _ in 0..2 {
        assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!((bench.left(&token).await, bench.updates()), (5, 0));
    // The response of the handler does not matter.
    assert_eq!(api.get_at("/none", &token).await.status, StatusCode::NOT_FOUND);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
}

#[tokio::test]
async fn a_request_that_waits_for_the_extension_of_a_cached_token_sees_its_new_expiry() {
    let bench = Bench::new().await;
    let auth = extending(bench.layer()).build().unwrap();
    let expiry = get(|token: TokenInfo| async move { format!("{:?}", token.expires_at()) });
    let api = Protected::with_routes(&auth, Router::new().route("/", expiry));
    let token = bench.authlete.token().expires_in(12 * SECOND).issue().await;
    let before = api.get(&token).await.body;
    bench.clock.advance(5 * SECOND);
    let requests = join_all((0..10).map(|_| api.get(&token))).await;
    let after = format!("{:?}", Some(bench.clock.now() + 30 * SECOND));
    assert_ne!(before, after);
    for answer in requests {
        assert_eq!(answer.body, after);
    }
    assert_eq!((bench.introspections(), bench.updates()), (2, 1));
}

/// A layer whose transport advances the clock with each update.
fn with_slow_updates(bench: &Bench, by: Duration, fails: bool) -> AuthLayerBuilder {
    let (transport, clock) = (transport(), bench.clock.clone());
    let transport = tower::service_fn(move |request: Request<RequestBody>| {
        let (transport, clock) = (transport.clone(), clock.clone());
        let update = request.uri().path().ends_with("/auth/token/update");
        async move {
            let answer = transport.oneshot(request).await;
            if update && fails {
                clock.advance(by);
            }
            answer
        }
    });
    let authlete = bench.authlete.client_builder().transport(transport).build().unwrap();
    AuthLayer::builder(authlete)
        .clock(bench.clock.clone())
        .resilience(resilience().retry(Retry::times(3).backoff(Duration::ZERO)))
}

#[tokio::test]
async fn an_extension_is_not_retried_once_the_token_has_expired() {
    let bench = Bench::new().await;
    for (passes, updates) in [(1, 4), (5, 1)] {
        let before = bench.updates();
        let layer = with_slow_updates(&bench, passes * SECOND, true);
        let api = Protected::new(&layer.extend_lifetime(extension().wait()).build().unwrap());
        let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
        bench.authlete.fault(Fault::status(503).on(Api::TokenUpdate));
        api.get(&token).await;
        bench.authlete.clear_faults();
        assert_eq!(bench.updates() - before, updates, "{passes}");
    }
}

#[tokio::test]
async fn a_token_has_one_longest_life_whatever_its_value() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| extending(layer).rotate(rotation()));
    let mut token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    let mut lived = 0;
    loop {
        let answer = api.get(&token).await;
        if answer.status != OK || lived > 200 {
            break;
        }
        if !answer.header(NEW).is_empty() {
            answer.header(NEW).clone_into(&mut token);
        }
        bench.clock.advance(SECOND);
        lived += 1;
    }
    assert_eq!(lived, 100);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_extend_the_longest_life() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    bench.clock.advance(25 * SECOND);
    bench.clock.rewind(20 * SECOND);
    // 25 s are left by Authlete's clock, and 25 of the 100 s are used.
    bench.clock.advance(20 * SECOND);
    assert_eq!(api.get(&token).await.status, OK);
    assert_eq!(bench.left(&token).await, 30);
    for _ in 0..3 {
        bench.clock.advance(25 * SECOND);
        bench.clock.rewind(20 * SECOND);
    }
    // 120 s have passed since it was first seen.
    bench.clock.advance(10 * SECOND);
    assert_eq!(api.get(&token).await.status, OK);
    assert_eq!(bench.left(&token).await, 5);
}

#[tokio::test]
async fn an_extension_is_not_retried_after_an_update() {
    let bench = Bench::new().await;
    let (authlete, gate) = Gate::before(&bench, "/auth/token/update");
    let extension = ExtendLifetime::new().when_below(10 * SECOND).to(1800 * SECOND);
    let layer = AuthLayer::builder(authlete).clock(bench.clock.clone()).extend_lifetime(extension);
    let api = Protected::new(
        &layer
            .resilience(resilience().retry(Retry::times(1).backoff(Duration::ZERO)))
            .build()
            .unwrap(),
    );
    let token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    bench.authlete.fault(Fault::status(503).on(Api::TokenUpdate).times(1));
    assert_eq!(api.get(&token).await.status, OK);
    gate.holds().await;
    let soon = bench.clock.now() + 2 * SECOND;
    let shorter = TokenUpdateRequest::new().access_token_expires_at(soon);
    api.handle.update(&token, shorter).await.unwrap();
    gate.open();
    bench.let_others_call().await;
    assert_eq!(bench.updates(), 2);
    bench.clock.advance(60 * SECOND);
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_whose_extension_is_not_answered_works_on() {
    let bench = Bench::new().await;
    let extension = ExtendLifetime::new().when_below(10 * SECOND).to(30 * SECOND).wait();
    let api = bench.api_with_short_deadline(|layer| layer.extend_lifetime(extension));
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    let _lost = bench.authlete.hold(Api::TokenUpdate);
    assert_eq!(api.get(&token).await.status, OK);
    // It has expired by the cached facts, but not at Authlete.
    bench.clock.advance(10 * SECOND);
    assert_eq!(api.get(&token).await.status, OK);
}

#[tokio::test]
async fn in_an_outage_a_token_due_for_extension_is_checked_again_at_intervals() {
    let bench = Bench::new().await;
    let extension = ExtendLifetime::new().when_below(12 * SECOND).to(30 * SECOND);
    let api = bench.api_with(|layer| {
        layer.extend_lifetime(extension).resilience(resilience().breaker(Breaker::disabled()))
    });
    let token = bench.authlete.token().subject("a").expires_in(15 * SECOND).issue().await;
    api.get(&token).await;
    bench.authlete.fault(Fault::status(503));
    bench.clock.advance(4 * SECOND);
    for _ in 0..10 {
        assert_eq!(api.get(&token).await.status, OK);
        // Calls that were started before this one have arrived.
        assert_eq!(api.get("another").await.status, UNAVAILABLE);
    }
    assert_eq!(bench.introspections(), 1 + 1 + 10);
    // Later it is checked again.
    bench.clock.advance(4 * SECOND);
    while bench.introspections() < 13 {
        assert_eq!(api.get(&token).await.status, OK);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_that_waits_for_an_extension_uses_newer_facts() {
    for cached in [true, false] {
        for revoked in [true, false] {
            let bench = Bench::new().await;
            let layer = extending(bench.layer()).require(Require::scopes(["write"]));
            let auth = layer.build().unwrap();
            let api = Protected::new(&if cached { auth } else { auth.bypass_cache() });
            let token = bench.authlete.token().scopes(["read", "write"]);
            let token = token.expires_in(5 * SECOND).issue().await;
            // The response with the new expiry is held back.
            let hold = bench.authlete.hold(Api::TokenUpdate);
            let waits = tokio::spawn({
                let (api, token) = (api.clone(), token.clone());
                async move { api.get(&token).await.status }
            });
            bench.authlete.arrived(Api::TokenUpdate, 1).await;
            let expected = if revoked {
                api.handle.revoke(&token).await.unwrap();
                hold.release();
                UNAUTHORIZED
            } else {
                let (handle, token) = (api.handle.clone(), token.clone());
                let narrow = TokenUpdateRequest::new().scopes(["read"]);
                let narrow = tokio::spawn(async move { handle.update(&token, narrow).await });
                bench.authlete.arrived(Api::TokenUpdate, 2).await;
                hold.release();
                narrow.await.unwrap().unwrap();
                StatusCode::FORBIDDEN
            };
            // Who is let pass before the other change has returned is let pass by what was so then.
            let status = waits.await.unwrap();
            let before = !revoked && status == OK;
            assert!(status == expected || before, "{cached} {revoked}: {status}");
        }
    }
}

#[tokio::test]
async fn a_request_that_waits_for_an_extension_is_refused_after_a_revocation_elsewhere() {
    let bench = Bench::new().await;
    let api = bench.api_with(extending);
    let token = bench.authlete.token().expires_in(12 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    bench.clock.advance(5 * SECOND);
    bench.authlete.revoke(&token);
    // The extension takes an introspection, which tells it.
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
    assert_eq!((bench.introspections(), bench.updates()), (2, 0));
}

#[tokio::test]
async fn a_request_does_not_wait_for_an_extension_with_facts_that_were_forgotten_before_it_waits() {
    let bench = Bench::new().await;
    let auth = extending(bench.layer()).build().unwrap();
    let (api, handle) = (Protected::new(&auth), auth.handle());
    let token = bench.authlete.token().expires_in(12 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    // The extension's introspection fails, and is not repeated at once.
    bench.clock.advance(5 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.clear_faults();
    bench.authlete.revoke(&token);
    let inner =
        tower::service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let request = Request::builder().header("authorization", format!("Bearer {token}"));
    let answer = auth.layer(inner).call(request.body(()).unwrap());
    handle.forget(&token);
    assert_eq!(answer.await.unwrap().status(), UNAUTHORIZED);
    assert_eq!((bench.introspections(), bench.updates()), (3, 0));
}

#[tokio::test]
async fn an_extension_that_a_rotation_supersedes_refuses_no_request() {
    let bench = Bench::new().await;
    let (transport, late) = (transport(), Arc::<Gate>::default());
    let gate = late.clone();
    let transport = tower::service_fn(move |request: Request<RequestBody>| {
        let (transport, gate) = (transport.clone(), gate.clone());
        async move {
            // The first update is the extension.
            if request.uri().path().ends_with("/auth/token/update") {
                gate.pass().await;
            }
            transport.oneshot(request).await
        }
    });
    let authlete = bench.authlete.client_builder().transport(transport).build().unwrap();
    let rotation = rotation().overlap(10 * SECOND);
    let layer = AuthLayer::builder(authlete).clock(bench.clock.clone()).rotate(rotation);
    let auth = layer.extend_lifetime(extension().wait()).build().unwrap();
    let handler = Arc::<Gate>::default();
    let slow = handler.clone();
    let router = Router::new()
        .route("/", get(async || "fast"))
        .route("/slow", get(async move || slow.pass().await))
        .layer(auth.clone());
    let api = Protected { router, ..Protected::new(&auth) };
    let spawn = |path: &'static str, token: &str| {
        let (api, token) = (api.clone(), token.to_owned());
        tokio::spawn(async move { api.get_at(path, &token).await })
    };
    let token = bench.authlete.token().expires_in(31 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    // Admitted when it is time for another value, and not yet for a longer life.
    bench.clock.advance(20 * SECOND);
    let rotates = spawn("/slow", &token);
    handler.holds().await;
    bench.clock.advance(2 * SECOND);
    let waits = spawn("/", &token);
    late.holds().await;
    handler.open();
    let value = rotates.await.unwrap().header(NEW).to_owned();
    assert_ne!(value, "");
    late.open();
    assert_eq!(waits.await.unwrap().status, OK);
    assert_eq!(api.get(&value).await.status, OK);
}

#[tokio::test]
async fn an_old_introspection_is_followed_by_no_update() {
    let bench = Bench::new().await;
    let auth = bench.layer().extend_lifetime(extension()).build().unwrap();
    let handler = Arc::<Gate>::default();
    let slow = handler.clone();
    let router = Router::new().route("/", get(async move || slow.pass().await));
    let api = Protected { router: router.layer(auth.clone()), ..Protected::new(&auth) };
    let token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    let request = tokio::spawn({
        let (api, token) = (api.clone(), token.clone());
        async move { api.get(&token).await.status }
    });
    handler.holds().await;
    // Another server shortens its life, and it expires during the handler.
    let at = bench.clock.now() + SECOND;
    let request_elsewhere =
        TokenUpdateRequest::new().access_token(&token).access_token_expires_at(at);
    bench.authlete.authlete().token_update(&request_elsewhere).await.unwrap();
    bench.clock.advance(4 * SECOND);
    handler.open();
    assert_eq!(request.await.unwrap(), OK);
    // The next introspection shows that it has expired.
    while bench.introspections() < 2 && bench.updates() < 2 {
        tokio::task::yield_now().await;
    }
    while auth.handle().health().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.updates(), 1);
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}
