//! Checks by `/auth/token/update` without changes.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use serde_json::json;
use tower_authlete::{
    Require,
    emulator::{Api, Fault},
    layer::CheckApi,
};

use crate::support::Bench;

#[tokio::test]
async fn a_valid_token_is_checked_once_and_not_changed() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.check(CheckApi::Update));
    let token = bench.authlete.token().scopes(["read"]).property("plan", "gold").issue().await;
    for _ in 0..3 {
        assert_eq!(api.get_at("/read", &token).await.status, StatusCode::OK);
        assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(bench.authlete.calls(Api::TokenUpdate), 1);
    assert_eq!(bench.introspections(), 0);
    // An introspection finds the token unchanged.
    assert_eq!(bench.api().get_at("/read", &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_that_does_not_exist_is_401() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.check(CheckApi::Update));
    let answer = api.get("rubbish").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""));
}

#[tokio::test]
async fn an_expired_token_is_401_though_the_api_says_ok() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.check(CheckApi::Update));
    let token = bench.authlete.token().expires_in(Duration::from_secs(30)).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
    let past = bench.authlete.token().expires_at(UNIX_EPOCH + Duration::from_secs(1));
    assert_eq!(api.get(&past.issue().await).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_of_another_type_than_bearer_is_refused() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.check(CheckApi::Update));
    let token = bench.authlete.token().dpop_key_thumbprint("abc").issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_answer_without_a_verdict_is_503() {
    for body in [
        json!({ "action": "OK" }),
        json!({ "action": "BAD_REQUEST" }),
        json!({ "action": "INTERNAL_SERVER_ERROR" }),
        json!({ "action": "UNAUTHORIZED" }),
        json!({}),
    ] {
        let bench = Bench::new().await;
        let api = bench.api_with(|layer| layer.check(CheckApi::Update));
        bench.authlete.fault(Fault::body(body.to_string()));
        assert_eq!(api.get("abc").await.status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    }
}

#[tokio::test]
async fn what_the_api_does_not_know_meets_no_requirement() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().subject("alice").acr("gold").resources(["r"]).issue().await;
    for require in [Require::subject(), Require::acr(["gold"]), Require::audience(["r"])] {
        let api = bench.api_with(|layer| layer.check(CheckApi::Update).require(require.clone()));
        assert_ne!(api.get(&token).await.status, StatusCode::OK, "{require:?}");
        let api = bench.api_with(|layer| layer.require(require.clone()));
        assert_eq!(api.get(&token).await.status, StatusCode::OK, "{require:?}");
    }
}
