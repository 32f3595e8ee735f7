//! Tokens that are bound to a key need a proof of it, from the cache too (RFC 9449 §7).

use http::{StatusCode, header::WWW_AUTHENTICATE};
use serde_json::json;
use tokio::sync::Notify;
use tower_authlete::{
    AuthLayerBuilder, CachePolicy, Dpop, Refresh,
    api::{TokenUpdateAction, TokenUpdateRequest},
    emulator::{Api, Fault},
};

use crate::{
    holder::{Holder, assert_invalid_token, assert_refused},
    keys::Key,
    support::{Answer, Bench, ORIGIN, SECOND},
};

#[tokio::test]
async fn further_proofs_by_the_same_key_are_answered_from_the_cache() {
    let bench = Bench::new().await;
    for key in [Key::es256(), Key::es384(), Key::ed25519()] {
        let before = bench.introspections();
        let holder = Holder::new(&bench).await;
        let token = Holder::bound(&bench, &key).await;
        let holder = Holder { key, token, ..holder };
        for _ in 0..3 {
            let answer = holder.get().await;
            assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"));
        }
        assert_eq!(bench.introspections() - before, 1);
    }
}

#[tokio::test]
async fn a_bound_token_is_no_bearer_token_though_it_is_cached() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    let answer = holder.api.get(&holder.token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().starts_with("Bearer error=\"invalid_token\""));
    // The holder is still admitted.
    assert_eq!(holder.get().await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_bound_token_is_refused_with_a_proof_of_another_key() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    assert_eq!(holder.get().await.status, StatusCode::OK);
    let stolen = holder.proof_of(&Key::es256(), json!({}));
    assert_refused(&holder.present(&stolen).await, "invalid_token", "another key");
    assert_eq!(bench.introspections(), 2);
    assert_eq!(holder.get().await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_bearer_token_with_a_proof_is_not_bound() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let token = bench.authlete.token().subject("alice").issue().await;
    let holder = Holder { token, ..holder };
    assert_eq!(holder.api.get(&holder.token).await.status, StatusCode::OK);
    assert_refused(&holder.get().await, "invalid_token", "not bound");
    // A proof beside a bearer token is ignored.
    let bearer = format!("Bearer {}", holder.token);
    let answer = holder.api.send(&[("authorization", &bearer), ("dpop", "x")]).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn bearer_tokens_can_be_refused() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, Dpop::required, |layer| layer).await;
    let token = bench.authlete.token().issue().await;
    let answer = holder.api.get(&token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().starts_with("DPoP algs="), "{}", answer.challenge());
    assert_eq!(bench.introspections(), 0);
    assert_eq!(holder.get().await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_unbound_token_gains_nothing_by_a_proof_where_proofs_are_required() {
    let bench = Bench::new().await;
    let holder = Holder::with(&bench, Dpop::required, |layer| layer).await;
    let unbound = bench.authlete.token().subject("alice").issue().await;
    let thief =
        Holder { token: unbound, key: Key::es256(), api: holder.api.clone(), bench: &bench };
    let pass = Fault::json(json!({ "action": "OK", "subject": "alice" })).on(Api::Introspection);
    for authlete_looks_at_proofs in [true, false] {
        if !authlete_looks_at_proofs {
            // Authlete ignores the proof, since the token is not bound.
            bench.authlete.fault(pass.clone().times(1));
        }
        thief.api.handle.forget(&thief.token);
        for _asked_and_known in 0..2 {
            let answer = thief.get().await;
            assert_refused(&answer, "invalid_token", &authlete_looks_at_proofs.to_string());
        }
        bench.authlete.clear_faults();
    }
    // The holder of a bound token passes, and is checked once.
    let before = bench.introspections();
    for _ in 0..3 {
        assert_eq!(holder.get().await.status, StatusCode::OK);
    }
    assert_eq!(bench.introspections() - before, 2, "with the proof, and without");
    // A binding that cannot be determined does not admit.
    let other = Holder { token: Holder::bound(&bench, &holder.key).await, ..holder };
    bench.authlete.fault(pass.times(1));
    bench.authlete.fault(Fault::status(503).on(Api::Introspection));
    assert_eq!(other.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    bench.authlete.clear_faults();
    assert_eq!(other.get().await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_the_setting_the_dpop_scheme_is_401() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    for optional in [false, true] {
        let layer = |layer: AuthLayerBuilder| if optional { layer.optional() } else { layer };
        let api = bench.api_with(layer);
        let authorization = format!("DPoP {}", holder.token);
        let answer = api.send(&[("authorization", &authorization)]).await;
        assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, "Bearer"));
    }
}

#[tokio::test]
async fn both_schemes_are_challenged_and_the_error_stands_with_the_one_used() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let challenges = |answer: &Answer| -> Vec<String> {
        let values = answer.headers.get_all(WWW_AUTHENTICATE);
        values.iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let algs = "DPoP algs=\"ES256 ES384 Ed25519 EdDSA PS256 RS256\"";
    assert_eq!(challenges(&holder.api.send(&[]).await), ["Bearer", algs]);
    let bearer = challenges(&holder.api.get("rubbish").await);
    assert!(bearer[0].starts_with("Bearer error=\"invalid_token\""), "{bearer:?}");
    assert_eq!(bearer[1], algs);
    // A route's requirement challenges likewise.
    let proof = holder.proof(json!({ "htu": format!("{ORIGIN}/write") }));
    let answer = holder.present_at("/write", &proof).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let dpop = challenges(&answer);
    assert!(dpop[0].starts_with("DPoP error=\"insufficient_scope\""), "{dpop:?}");
    assert_eq!(dpop[1], "Bearer");
}

#[tokio::test]
async fn forget_drops_all_presentations() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    holder.get().await;
    assert!(bench.authlete.revoke(&holder.token));
    assert_eq!(holder.get().await.status, StatusCode::OK, "it is known from the cache");
    holder.api.handle.forget(&holder.token);
    assert_invalid_token(&holder.get().await);
    assert_eq!(holder.api.get(&holder.token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_revoked_bound_token_is_refused_at_once() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    holder.get().await;
    holder.api.handle.revoke(&holder.token).await.unwrap();
    assert_invalid_token(&holder.get().await);
}

#[tokio::test]
async fn an_update_keeps_a_bound_token_bound() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    holder.get().await;
    let request = TokenUpdateRequest::new().properties([("plan", "gold")]);
    let response = holder.api.handle.update(&holder.token, request).await.unwrap();
    assert_eq!(response.action, TokenUpdateAction::Ok);
    assert_eq!(holder.get().await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 1);
    assert_eq!(holder.api.get(&holder.token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_bound_token_is_extended_by_a_proof_that_came_with_it() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND);
    let holder = Holder::with(&bench, |dpop| dpop, |layer| layer.refresh(refresh)).await;
    let holder = holder.with_token(|token| token.expires_in(15 * SECOND)).await;
    holder.get().await;
    bench.clock.advance(6 * SECOND);
    assert_eq!(holder.get().await.status, StatusCode::OK);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn an_extension_refuses_no_other_request_of_the_token_in_flight() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND);
    let settings =
        |layer: AuthLayerBuilder| layer.cache(CachePolicy::disabled()).refresh(refresh.wait());
    let holder = Holder::with(&bench, |dpop| dpop, settings).await;
    let holder = holder.with_token(|token| token.expires_in(5 * SECOND)).await;
    let (update, extended) = (bench.authlete.hold(Api::TokenUpdate), Notify::new());
    let extends = async {
        let answer = holder.get().await;
        extended.notify_one();
        answer
    };
    let (one, other) = tokio::join!(extends, async {
        bench.authlete.arrived(Api::TokenUpdate, 1).await;
        let introspection = bench.authlete.hold(Api::Introspection);
        let (answer, ()) = tokio::join!(holder.get(), async {
            bench.authlete.arrived(Api::Introspection, 2).await;
            update.release();
            extended.notified().await;
            introspection.release();
        });
        answer
    });
    assert_eq!((one.status, other.status), (StatusCode::OK, StatusCode::OK));
}
