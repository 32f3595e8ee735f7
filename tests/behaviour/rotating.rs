//! Rotation: tokens in use get new values at intervals.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use futures_util::{future::join_all, poll};
use http::{Request, StatusCode, Version, header};
use serde_json::json;
use tower_authlete::{
    AuthLayerBuilder, BreakerState, CachePolicy, CookieToken, JwtKeys, JwtPrecheck, Precheck,
    RequireScopes, Rotation,
    emulator::{Api, Fault},
    resilience::Breaker,
};

use crate::{
    keys::Key,
    support::{
        Answer, Bench, NEW, OK, Protected, SECOND, UNAUTHORIZED, UNAVAILABLE, due, resilience,
        rotation, send, wrong_settings,
    },
};

#[tokio::test]
async fn the_client_is_told_the_new_value_and_the_old_one_is_refused_at_once() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation()).await;
    let answer = api.get(&old).await;
    let new = answer.header(NEW).to_owned();
    assert_eq!((answer.status, answer.body.as_str()), (OK, "alice"));
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    assert!(answer.headers[NEW].is_sensitive() && new != old && !new.is_empty());
    assert_eq!(api.get(&old).await.status, UNAUTHORIZED);
    let before = bench.introspections();
    let answer = api.get_at("/read", &new).await;
    assert_eq!((answer.body.as_str(), answer.header(NEW)), ("alice", ""));
    assert_eq!((bench.introspections() - before, bench.updates()), (0, 1));
    // The new value is rotated later.
    bench.clock.advance(20 * SECOND);
    assert_ne!(api.get(&new).await.header(NEW), "");
}

#[tokio::test]
async fn without_the_setting_nothing_is_rotated() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    for _ in 0..3 {
        assert_eq!(api.get(&token).await.header(NEW), "");
        bench.clock.advance(1200 * SECOND);
    }
    assert_eq!(bench.updates(), 0);
}

#[tokio::test]
async fn concurrent_requests_cause_one_rotation_and_get_the_same_value() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation()).await;
    let answers = join_all((0..50).map(|_| api.get(&old))).await;
    let told: Vec<_> = answers.iter().filter(|answer| answer.status == OK).collect();
    assert!(!told.is_empty());
    assert!(told.iter().all(|answer| answer.header(NEW) == told[0].header(NEW)));
    assert!(!told[0].header(NEW).is_empty());
    assert_eq!(bench.updates(), 1);
}

#[tokio::test]
async fn a_response_that_is_an_error_rotates_nothing() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation()).await;
    for (path, status) in [("/write", StatusCode::FORBIDDEN), ("/none", StatusCode::NOT_FOUND)] {
        let answer = api.get_at(path, &old).await;
        assert_eq!((answer.status, answer.header(NEW)), (status, ""));
    }
    assert_eq!(bench.updates(), 0);
    assert_ne!(api.get(&old).await.header(NEW), "");
}

#[tokio::test]
async fn an_overlap_lets_requests_on_their_way_pass_and_tells_them_too() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
    let new = api.get(&old).await.header(NEW).to_owned();
    bench.clock.advance(4 * SECOND);
    let answer = api.get(&old).await;
    assert_eq!((answer.body.as_str(), answer.header(NEW)), ("alice", new.as_str()));
    bench.clock.advance(SECOND);
    assert_eq!(api.get(&old).await.status, UNAUTHORIZED);
    assert_eq!(bench.updates(), 1);
}

#[tokio::test]
async fn a_revocation_ends_both_values_also_during_the_overlap() {
    for by_old_value in [false, true] {
        let bench = Bench::new().await;
        let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
        let new = api.get(&old).await.header(NEW).to_owned();
        api.handle.revoke(if by_old_value { &old } else { &new }).await.unwrap();
        for value in [&old, &new] {
            assert_eq!(api.get(value).await.status, UNAUTHORIZED, "{by_old_value}");
        }
    }
}

#[tokio::test]
async fn a_rotation_that_fails_leaves_the_old_value_as_it_is() {
    for fault in [Fault::status(500), Fault::body(r#"{"action":"BAD_REQUEST"}"#)] {
        let bench = Bench::new().await;
        let (api, old) = due(&bench, rotation()).await;
        bench.authlete.fault(fault.on(Api::TokenUpdate));
        let answer = api.get(&old).await;
        assert_eq!((answer.status, answer.header(NEW)), (OK, ""));
        // No rotation took place, and the old value is valid.
        assert_eq!(api.get(&old).await.status, OK);
    }
}

#[tokio::test]
async fn a_cookie_can_carry_the_new_value() {
    let bench = Bench::new().await;
    let settings = |layer: AuthLayerBuilder| {
        let rotation = Rotation::in_cookie("token").every(20 * SECOND);
        layer.token_source(CookieToken::new("token")).rotate(rotation)
    };
    let auth = settings(bench.layer()).build().unwrap();
    let empty = get(|| async { Body::empty() });
    let api = Protected::with_routes(&auth, Router::new().route("/", empty));
    let token = bench.authlete.token().issue().await;
    let cookie = format!("token={token}");
    let ask = async || -> Answer { api.send(&[("cookie", &cookie)]).await };
    assert_eq!(ask().await.header(header::SET_COOKIE), "");
    bench.clock.advance(20 * SECOND);
    let answer = ask().await;
    let set = answer.header(header::SET_COOKIE);
    assert!(set.starts_with("token=") && !set.contains(&token), "{set}");
    assert!(set.ends_with("; HttpOnly; Secure; SameSite=Lax; Path=/"), "{set}");
}

#[tokio::test]
async fn a_refusal_by_trailers_rotates_nothing() {
    let bench = Bench::new().await;
    let auth = bench.layer().rotate(rotation()).build().unwrap();
    let route = post(|| async {}).route_layer(RequireScopes::all(["write"]));
    let router = Router::new().route("/call", route).route("/", get(|| async {}));
    let api = Protected::with_routes(&auth, router);
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    bench.clock.advance(20 * SECOND);
    let request = Request::post("/call")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {token}"));
    let answer = send(api.router.clone(), request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.headers["grpc-status"].as_bytes()), (OK, &b"7"[..]));
    assert_eq!((answer.header(NEW), bench.updates()), ("", 0));
}

#[tokio::test]
async fn an_old_value_is_accepted_for_all_of_the_overlap_whatever_is_cached() {
    for max_age in [Duration::ZERO, 5 * SECOND, 60 * SECOND] {
        let bench = Bench::new().await;
        let rotation = Rotation::in_header(NEW).every(60 * SECOND).overlap(30 * SECOND);
        let api = bench.api_with(|layer| layer.max_age(max_age).rotate(rotation));
        let old = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
        api.get(&old).await;
        bench.clock.advance(60 * SECOND);
        let new = api.get(&old).await.header(NEW).to_owned();
        assert_ne!(new, "");
        bench.clock.advance(6 * SECOND);
        let answer = api.get_at("/read", &old).await;
        assert_eq!((answer.body.as_str(), answer.header(NEW)), ("alice", new.as_str()));
        // It is an alias of the new value, and is invalidated with it.
        assert!(bench.authlete.revoke(&new));
        bench.clock.advance(23 * SECOND);
        let status = if max_age > 30 * SECOND { OK } else { UNAUTHORIZED };
        assert_eq!(api.get(&old).await.status, status, "{max_age:?}");
        bench.clock.advance(SECOND);
        assert_eq!(api.get(&old).await.status, UNAUTHORIZED, "{max_age:?}");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_extends_no_overlap() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
    assert_ne!(api.get(&old).await.header(NEW), "");
    bench.clock.rewind(3600 * SECOND);
    bench.clock.advance(5 * SECOND);
    assert_eq!(api.get(&old).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn tokens_that_have_to_be_jwts_are_not_rotated() {
    let bench = Bench::new().await;
    let keys = JwtKeys::from_json(json!({ "keys": [Key::es256().jwk] }).to_string()).unwrap();
    let layer = || bench.layer().rotate(rotation());
    let error = layer().precheck(JwtPrecheck::new(&keys)).build().unwrap_err();
    assert_eq!(wrong_settings(&error), ["rotate"]);
    let either = Precheck::from(JwtPrecheck::new(&keys)).or(Precheck::base64url());
    assert!(layer().precheck(either).build().is_ok());
}

#[tokio::test]
async fn wrong_settings_of_rotations_are_refused() {
    let bench = Bench::new().await;
    for (rotation, name) in [
        (rotation().every(Duration::ZERO), "rotate.every"),
        (rotation().overlap(20 * SECOND), "rotate.overlap"),
        (rotation().every(600 * SECOND).overlap(61 * SECOND), "rotate.overlap"),
        (Rotation::in_cookie("a b"), "rotate.in_cookie"),
    ] {
        let error = bench.layer().rotate(rotation).build().unwrap_err();
        assert_eq!(wrong_settings(&error), [name]);
    }
}

#[tokio::test]
async fn a_rotation_that_is_refused_is_tried_again_after_a_while() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
    api.get_at("/none", &old).await;
    let before = bench.introspections();
    bench.authlete.fault(Fault::body(r#"{"action":"BAD_REQUEST"}"#).on(Api::TokenUpdate));
    for _ in 0..10 {
        assert_eq!(api.get(&old).await.status, OK);
    }
    assert_eq!(bench.updates(), 1);
    assert_eq!(bench.introspections(), before, "what is known is still so");
    bench.clock.advance(5 * SECOND);
    bench.authlete.clear_faults();
    assert_ne!(api.get(&old).await.header(NEW), "");
}

#[tokio::test]
async fn the_old_value_of_a_rotation_without_a_response_is_refused_with_a_challenge() {
    let bench = Bench::new().await;
    let api = bench.api_with_short_deadline(|layer| layer.rotate(rotation()));
    let token = bench.authlete.token().issue().await;
    api.get(&token).await;
    bench.clock.advance(20 * SECOND);
    let _lost = bench.authlete.hold(Api::TokenUpdate);
    let answer = api.get(&token).await;
    assert_eq!((answer.status, answer.header(NEW)), (OK, ""));
    let answer = api.get(&token).await;
    assert_eq!(answer.status, UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""), "{answer:?}");
}

#[tokio::test]
async fn in_an_outage_cached_tokens_that_are_due_for_rotation_are_served() {
    for status in [503, 429] {
        let bench = Bench::new().await;
        let api = bench.api_with(|layer| layer.rotate(rotation()));
        let token = bench.authlete.token().subject("alice").issue().await;
        api.get(&token).await;
        bench.clock.advance(20 * SECOND);
        bench.authlete.fault(Fault::status(status));
        assert_eq!(api.get(&token).await.status, OK);
        assert_eq!(api.get(&token).await.status, OK);
        assert_eq!(bench.updates(), 1);
    }
}

#[tokio::test]
async fn in_an_outage_stale_tokens_that_are_due_for_rotation_are_served() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer.cache(CachePolicy::new().stale_if_error(600 * SECOND)).rotate(rotation())
    });
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for _ in 0..3 {
        assert_eq!(api.get(&token).await.status, OK);
    }
    assert_eq!(bench.updates(), 0);
}

#[tokio::test]
async fn nothing_is_rotated_while_the_breaker_is_open() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer
            .resilience(resilience().breaker(Breaker::after(1).pause(30 * SECOND)))
            .rotate(rotation())
    });
    let token = bench.authlete.token().subject("alice").issue().await;
    api.get(&token).await;
    bench.clock.advance(20 * SECOND);
    bench.authlete.fault(Fault::status(502).on(Api::Introspection));
    assert_eq!(api.get("another").await.status, UNAVAILABLE);
    assert_eq!(api.handle.health().breaker, BreakerState::Open);
    assert_eq!(api.get(&token).await.status, OK);
    assert_eq!(bench.updates(), 0);
    bench.clock.advance(30 * SECOND);
    bench.authlete.clear_faults();
    api.get("another").await;
    assert!(!api.get(&token).await.header(NEW).is_empty(), "it is asked for later");
}

#[tokio::test]
async fn concurrent_rotations_are_limited() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.rotate(rotation()));
    let mut tokens = Vec::new();
    for _ in 0..100 {
        let token = bench.authlete.token().subject("alice").issue().await;
        assert_eq!(api.get(&token).await.status, OK);
        tokens.push(token);
    }
    bench.clock.advance(20 * SECOND);
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let mut all: Vec<_> = tokens.iter().map(|token| Box::pin(api.get(token))).collect();
    let mut answered = 0;
    for request in &mut all {
        answered += u32::from(poll!(request).is_ready());
    }
    assert_eq!(answered, 36, "there is room for 64");
    hold.release();
}
