//! What a second look found.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use futures_util::future::join_all;
use http::{Request, StatusCode};
use serde_json::json;
use tower_authlete::{BreakerState, Dpop, JwtKeys, Precheck, emulator::Api};

use crate::{
    keys::{Key, merged},
    support::{Bench, Protected, send},
};

const SECOND: Duration = Duration::from_secs(1);
const ORIGIN: &str = "https://api.example.com";

async fn bound(bench: &Bench, key: &Key) -> String {
    bench.authlete.token().dpop_key_thumbprint(key.thumbprint()).issue().await
}

/// A request for `/` with a proof of its own.
fn proven(bench: &Bench, key: &Key, token: &str) -> axum::extract::Request {
    let now = bench.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let proof = key.proof_for(token, json!({ "htu": format!("{ORIGIN}/"), "iat": now }));
    let request = Request::get("/").header("authorization", format!("DPoP {token}"));
    request.header("dpop", proof).body(axum::body::Body::empty()).unwrap()
}

#[tokio::test]
async fn a_route_without_cache_inside_does_not_go_by_what_another_request_asked() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    let outer = Protected::new(&auth);
    let nested = Protected::new(&auth.no_cache()).router.layer(auth);
    let key = Key::es256();
    let token = bound(&bench, &key).await;
    let hold = bench.authlete.hold(Api::Introspection);
    let first = send(outer.router, proven(&bench, &key, &token));
    let second = async {
        bench.authlete.arrived(Api::Introspection, 1).await;
        assert!(bench.authlete.revoke(&token));
        let second = tokio::spawn(send(nested, proven(&bench, &key, &token)));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        hold.release();
        second.await.unwrap()
    };
    let (first, second) = tokio::join!(first, second);
    // It was decided before the token was revoked.
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(second.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_layer_inside_sees_that_a_token_was_revoked_since_the_layer_outside_decided() {
    let bench = Bench::new().await;
    let auth = bench.layer().dpop(Dpop::at(ORIGIN)).build().unwrap();
    for inner in [auth.clone(), auth.no_cache()] {
        for known in [false, true] {
            let key = Key::es256();
            let token = bound(&bench, &key).await;
            if known {
                let outer = Protected::new(&auth);
                let answer = send(outer.router, proven(&bench, &key, &token)).await;
                assert_eq!(answer.status, StatusCode::OK);
            }
            let (handle, revoked) = (auth.handle(), token.clone());
            let between = axum::middleware::from_fn(
                move |request: axum::extract::Request, next: axum::middleware::Next| {
                    let (handle, revoked) = (handle.clone(), revoked.clone());
                    async move {
                        handle.revoke(&revoked).await.unwrap();
                        next.run(request).await
                    }
                },
            );
            let router = Protected::new(&inner).router.layer(between).layer(auth.clone());
            let answer = send(router, proven(&bench, &key, &token)).await;
            assert_ne!(answer.status, StatusCode::OK, "{inner:?} {known}");
        }
    }
}

#[tokio::test]
async fn who_waits_for_a_turn_in_vain_says_nothing_of_authlete() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        let layer = layer.breaker(2, SECOND).max_in_flight(1).max_waiting(8);
        layer.check_deadline(Duration::from_millis(200))
    });
    let _hold = bench.authlete.hold(Api::Introspection);
    let tokens: Vec<_> = (0..8).map(|number| format!("made-up-{number}")).collect();
    let answers = join_all(tokens.iter().map(|token| api.get(token))).await;
    assert!(answers.iter().all(|it| it.status == StatusCode::SERVICE_UNAVAILABLE));
    // At the end of the first one's time, others may have begun with what is left of theirs.
    assert!((1..8).contains(&bench.introspections()));
    assert_eq!(api.handle.health().breaker, BreakerState::Closed);
}

#[tokio::test]
async fn room_without_bounds_can_be_given() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().issue().await;
    let api = bench.api_with(|layer| layer.max_waiting(usize::MAX));
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    let api = bench.api_with(|layer| layer.max_in_flight(usize::MAX));
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn keys_that_can_verify_nothing_are_left_out() {
    let key = Key::es256();
    let x = BASE64.decode(key.jwk["x"].as_str().unwrap()).unwrap();
    let rsa = |n: &[u8]| json!({ "kty": "RSA", "e": "AQAB", "kid": "one", "n": BASE64.encode(n) });
    let zero = [&[0][..], &[0xff; 256]].concat();
    let low = [&[0x7f][..], &[0xff; 255]].concat();
    for odd in [
        merged(key.jwk.clone(), json!({ "x": BASE64.encode(&x[1..]) })),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(&x[1..]) }),
        rsa(&zero),
        rsa(&low),
    ] {
        let keys = JwtKeys::from_json(json!({ "keys": [odd] }).to_string());
        assert!(keys.is_err(), "{odd}");
    }
}

#[tokio::test]
async fn a_bound_for_what_is_out_of_date_is_for_what_is_kept() {
    let bench = Bench::new().await;
    for layer in [bench.layer().max_age(Duration::ZERO), bench.layer().no_cache()] {
        assert!(layer.stale_on_error(600 * SECOND).build().is_err());
    }
}

#[test]
fn an_alphabet_without_characters_is_a_mistake() {
    assert!(std::panic::catch_unwind(|| Precheck::alphabet([])).is_err());
}

#[tokio::test]
async fn a_backoff_without_bounds_panics_not() {
    use tower_authlete::emulator::Fault;
    let bench = Bench::new().await;
    let token = bench.authlete.token().issue().await;
    let api = bench.api_with(|layer| layer.retries(4, Duration::MAX / 2));
    bench.authlete.fault(Fault::status(503).retry_after(Duration::ZERO).times(3));
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
}
