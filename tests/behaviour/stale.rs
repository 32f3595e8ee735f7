//! Stale answers in an outage (`stale_if_error`).

use std::time::Duration;

use axum::{Router, routing::get};
use futures_util::FutureExt;
use http::StatusCode;
use serde_json::json;
use tower_authlete::{
    CachePolicy, TokenInfo,
    emulator::{Api, Fault},
    layer::AuthLayerBuilder,
};

use crate::{
    holder::Holder,
    keys::Key,
    support::{Bench, OK, Protected, SECOND, UNAUTHORIZED, UNAVAILABLE},
};

/// An API with `stale_if_error` of 600 s, and a token with a stale entry.
async fn stale(bench: &Bench) -> (Protected, String) {
    let api = bench.api_with(|layer| layer.cache(CachePolicy::new().stale_if_error(600 * SECOND)));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    bench.clock.advance(60 * SECOND);
    (api, token)
}

#[tokio::test]
async fn in_an_outage_stale_facts_serve_until_the_token_expires() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer.max_age(60 * SECOND).cache(CachePolicy::new().stale_if_error(120 * SECOND))
    });
    let token = bench.authlete.token().subject("alice").expires_in(150 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for _ in 0..3 {
        assert_eq!(api.get(&token).await.body, "alice");
        assert_eq!(api.get_at("/read", &token).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(api.get("another").await.status, UNAVAILABLE);
    // Never beyond the token's expiry.
    bench.clock.advance(90 * SECOND);
    assert_eq!(api.get(&token).await.status, UNAVAILABLE);
}

#[tokio::test]
async fn stale_facts_serve_up_to_their_bound_and_not_without_one() {
    let bench = Bench::new().await;
    for (stale, expected) in [(0, UNAVAILABLE), (31, OK), (30, UNAVAILABLE)] {
        let api =
            bench.api_with(|layer| layer.cache(CachePolicy::new().stale_if_error(stale * SECOND)));
        let token = bench.authlete.token().subject("alice").issue().await;
        api.get(&token).await;
        bench.clock.advance(90 * SECOND);
        bench.authlete.fault(Fault::status(503));
        assert_eq!(api.get(&token).await.status, expected, "{stale}");
        bench.authlete.clear_faults();
    }
}

#[tokio::test]
async fn invalidated_and_refused_tokens_are_never_served_stale() {
    for how in ["forget", "revoke", "no"] {
        let bench = Bench::new().await;
        let (api, token) = stale(&bench).await;
        match how {
            "forget" => api.handle.forget(&token),
            "revoke" => assert_eq!(api.handle.revoke(&token).await.unwrap().tokens, 1),
            _ => {
                assert!(bench.authlete.revoke(&token));
                assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
                bench.clock.advance(10 * SECOND);
            }
        }
        bench.authlete.fault(Fault::status(503));
        assert_ne!(api.get(&token).await.status, OK, "{how}");
    }
}

#[tokio::test]
async fn a_stale_token_is_revalidated_as_soon_as_calls_are_made() {
    let bench = Bench::new().await;
    let (api, token) = stale(&bench).await;
    bench.authlete.fault(Fault::status(503));
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.clear_faults();
    // Revoked elsewhere.
    assert!(bench.authlete.revoke(&token));
    bench.clock.advance(SECOND);
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn one_answer_ends_an_outage() {
    let bench = Bench::new().await;
    let (api, token) = stale(&bench).await;
    bench.authlete.fault(Fault::status(503).times(1));
    assert_eq!(api.get("another").await.status, UNAVAILABLE);
    bench.clock.advance(Duration::from_millis(100));
    assert_eq!(api.get("another").await.status, UNAUTHORIZED);
    assert!(bench.authlete.revoke(&token));
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn stale_facts_serve_at_once_while_authlete_is_down() {
    let bench = Bench::new().await;
    let (api, token) = stale(&bench).await;
    bench.authlete.fault(Fault::status(503).times(1));
    assert_eq!(api.get("another").await.status, UNAVAILABLE);
    let hold = bench.authlete.hold(Api::Introspection);
    // Authlete answers nothing, and yet:
    let answer = api.get(&token).now_or_never().expect("nobody waits");
    assert_eq!(answer.status, OK);
    bench.authlete.arrived(Api::Introspection, 3).await;
    drop(hold);
}

#[tokio::test]
async fn stale_facts_are_marked() {
    let bench = Bench::new().await;
    let auth =
        bench.layer().cache(CachePolicy::new().stale_if_error(600 * SECOND)).build().unwrap();
    let stale = get(async |token: TokenInfo| token.is_stale().to_string());
    let api = Protected::with_routes(&auth, Router::new().route("/", stale));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.body, "false");
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503).times(1));
    assert_eq!(api.get(&token).await.body, "true");
    bench.clock.advance(SECOND);
    assert_eq!(api.get(&token).await.body, "false");
}

#[tokio::test]
async fn a_route_without_cache_gets_no_stale_facts() {
    let bench = Bench::new().await;
    let auth =
        bench.layer().cache(CachePolicy::new().stale_if_error(600 * SECOND)).build().unwrap();
    let (cached, fresh) = (Protected::new(&auth), Protected::new(&auth.bypass_cache()));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(cached.get(&token).await.status, OK);
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(fresh.get(&token).await.status, UNAVAILABLE);
    assert_eq!(cached.get(&token).await.status, OK);
    assert_eq!(fresh.get(&token).await.status, UNAVAILABLE);
}

#[tokio::test]
async fn only_an_outage_lets_stale_facts_pass() {
    let bench = Bench::new().await;
    let bounded =
        |layer: AuthLayerBuilder| layer.cache(CachePolicy::new().stale_if_error(600 * SECOND));
    let holder = Holder::with(&bench, |dpop| dpop, bounded).await;
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(holder.api.get(&token).await.status, OK);
    assert_eq!(holder.get().await.status, OK);
    bench.clock.advance(60 * SECOND);
    // Authlete requires another proof.
    bench.authlete.set_dpop_nonce(Some("nonce".into()));
    let answer = holder.get().await;
    assert_eq!(answer.status, UNAUTHORIZED);
    assert!(answer.challenge().contains("use_dpop_nonce"), "{}", answer.challenge());
    // The credentials of this server are wrong.
    bench.authlete.fault(Fault::status(401));
    for _ in 0..2 {
        assert_eq!(holder.api.get(&token).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[tokio::test]
async fn stale_facts_are_for_the_binding_that_was_proven() {
    let bench = Bench::new().await;
    let bounded =
        |layer: AuthLayerBuilder| layer.cache(CachePolicy::new().stale_if_error(600 * SECOND));
    let holder = Holder::with(&bench, |dpop| dpop, bounded).await;
    let thief = Key::es256();
    assert_eq!(holder.get().await.status, OK);
    bench.clock.advance(60 * SECOND);
    bench.authlete.fault(Fault::status(503));
    for _when_the_call_fails_and_when_none_is_made in 0..2 {
        let stolen = holder.proof_of(&thief, json!({}));
        assert_eq!(holder.present(&stolen).await.status, UNAVAILABLE);
        assert_eq!(holder.api.get(&holder.token).await.status, UNAVAILABLE);
        assert_eq!(holder.get().await.status, OK);
    }
}

#[tokio::test]
async fn overlapping_calls_keep_what_an_outage_needs() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer.max_age(SECOND).cache(CachePolicy::new().stale_if_error(600 * SECOND))
    });
    let token = bench.authlete.token().subject("alice").issue().await;
    let (hold, first) = api.held(&bench, &token).await;
    // The response takes longer than `max_age`.
    bench.clock.advance(SECOND);
    let second = api.spawn_get(&token);
    bench.authlete.arrived(Api::Introspection, 2).await;
    hold.release();
    assert_eq!((first.await.unwrap().status, second.await.unwrap().status), (OK, OK));
    bench.clock.advance(5 * SECOND);
    bench.authlete.fault(Fault::status(503));
    assert_eq!(api.get(&token).await.status, OK);
}
