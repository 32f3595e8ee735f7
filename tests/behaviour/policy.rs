//! Requirements, on the layer and on routes.

use std::time::Duration;

use axum::{Router, routing::get};
use http::StatusCode;
use serde_json::json;
use tower_authlete::{
    AuthLayer, ProblemDetails, Require,
    emulator::{Api, Fault},
};

use crate::{
    authorization_server::issued,
    support::{Bench, Protected},
};

/// A route that takes `require`, behind a layer that takes nothing but a token.
fn route(bench: &Bench, require: Require) -> Protected {
    let auth = bench.layer().build().unwrap();
    let handler = get(|| async { "in" }).route_layer(require);
    Protected::with_routes(&auth, Router::new().route("/", handler))
}

/// The same, but it is the layer that takes it.
fn layer(bench: &Bench, require: Require) -> Protected {
    bench.api_with(|layer| layer.require(require))
}

#[tokio::test]
async fn missing_scopes_are_403_with_the_scopes_it_takes() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().scopes(["a"]).issue().await;
    let require = Require::scopes(["a", "b"]);
    for api in [route(&bench, require.clone()), layer(&bench, require)] {
        let answer = api.get(&token).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.challenge().contains("error=\"insufficient_scope\""), "{answer:?}");
        assert!(answer.challenge().ends_with("scope=\"a b\""), "{answer:?}");
    }
}

#[tokio::test]
async fn any_of_several_scopes_can_do() {
    let bench = Bench::new().await;
    let api = route(&bench, Require::any_scope(["a", "b"]));
    for (scopes, status) in [
        (&["a"][..], StatusCode::OK),
        (&["b", "c"], StatusCode::OK),
        (&["c"], StatusCode::FORBIDDEN),
        (&[], StatusCode::FORBIDDEN),
    ] {
        let token = bench.authlete.token().scopes(scopes.iter().copied()).issue().await;
        assert_eq!(api.get(&token).await.status, status, "{scopes:?}");
    }
}

#[tokio::test]
async fn a_token_for_another_resource_is_invalid_here() {
    let bench = Bench::new().await;
    let (ours, theirs) = ("https://api.example.com", "https://other.example.com");
    let api = layer(&bench, Require::audience([ours]));
    let token = bench.authlete.token().resources([theirs, ours]).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    for token in [
        bench.authlete.token().resources([theirs]).issue().await,
        bench.authlete.token().issue().await,
    ] {
        let answer = api.get(&token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.challenge().contains("error=\"invalid_token\""));
    }
}

#[tokio::test]
async fn too_weak_an_authentication_is_a_step_up_challenge() {
    let bench = Bench::new().await;
    let require = Require::acr(["gold"]).and(Require::max_auth_age(Duration::from_secs(300)));
    let api = route(&bench, require);
    let now = bench.clock.now();
    let good = bench.authlete.token().acr("gold").auth_time(now).issue().await;
    assert_eq!(api.get(&good).await.status, StatusCode::OK);
    let weak = bench.authlete.token().acr("silver").auth_time(now).issue().await;
    let answer = api.get(&weak).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"insufficient_user_authentication\""));
    assert!(answer.challenge().ends_with("acr_values=\"gold\""), "{answer:?}");
    // The age is judged now, not when the token was asked about.
    bench.clock.advance(Duration::from_secs(59));
    assert_eq!(api.get(&good).await.status, StatusCode::OK);
    bench.clock.advance(Duration::from_secs(300));
    let answer = api.get(&good).await;
    assert!(answer.challenge().ends_with("max_age=\"300\""), "{answer:?}");
}

#[tokio::test]
async fn a_cached_token_grows_too_old_between_two_requests() {
    let bench = Bench::new().await;
    let api = route(&bench, Require::max_auth_age(Duration::from_secs(10)));
    let token = bench.authlete.token().auth_time(bench.clock.now()).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(Duration::from_secs(12));
    assert_eq!(api.get(&token).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_subject_or_a_predicate_can_be_required() {
    let bench = Bench::new().await;
    let gold =
        Require::when("for gold members", |token| token.properties().get("plan") == Some("gold"));
    let api = route(&bench, Require::subject().and(gold));
    let token = || bench.authlete.token();
    let good = token().subject("alice").property("plan", "gold").issue().await;
    assert_eq!(api.get(&good).await.status, StatusCode::OK);
    let nobody = token().property("plan", "gold").issue().await;
    assert_eq!(api.get(&nobody).await.status, StatusCode::FORBIDDEN);
    let answer = api.get(&token().subject("bob").issue().await).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.challenge().contains("for gold members"), "{answer:?}");
}

#[tokio::test]
async fn requirements_of_the_layer_are_combined() {
    let bench = Bench::new().await;
    let api =
        bench.api_with(|layer| layer.require(Require::scopes(["a"])).require(Require::subject()));
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::FORBIDDEN);
    let token = bench.authlete.token().scopes(["a"]).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::FORBIDDEN);
    let token = bench.authlete.token().scopes(["a"]).subject("alice").issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_route_refuses_as_its_layer_does() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.realm("api").renderer(ProblemDetails));
    let token = bench.authlete.token().issue().await;
    let answer = api.get_at("/read", &token).await;
    assert_eq!(answer.header(http::header::CONTENT_TYPE), "application/problem+json");
    assert_eq!(answer.header(http::header::CACHE_CONTROL), "no-store");
    assert!(answer.challenge().starts_with("Bearer realm=\"api\", error="), "{answer:?}");
}

#[tokio::test]
async fn a_route_without_a_layer_around_it_is_500() {
    let bench = Bench::new().await;
    let router =
        Router::new().route("/", get(|| async { "in" }).route_layer(Require::scopes(["a"])));
    let api = Protected { router, ..bench.api() };
    let token = bench.authlete.token().scopes(["a"]).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn optional_lets_requests_without_credentials_pass_and_no_others() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.optional());
    let token = bench.authlete.token().subject("alice").scopes(["read"]).issue().await;
    assert_eq!(api.send(&[]).await.body, "nobody");
    assert_eq!(api.get(&token).await.body, "alice");
    assert_eq!(api.get("rubbish").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(api.get("a b").await.status, StatusCode::BAD_REQUEST);
    // A route that requires something still takes a token.
    assert_eq!(api.get_at("/read", &token).await.status, StatusCode::OK);
    let answer = api.send_at("/read", &[]).await;
    assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, "Bearer"));
}

#[tokio::test]
async fn requirements_of_an_optional_layer_apply_to_presented_tokens() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.optional().require(Require::scopes(["write"])));
    let answer = api.send(&[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "nobody"));
    for (scope, status) in [("write", StatusCode::OK), ("read", StatusCode::FORBIDDEN)] {
        let token = bench.authlete.token().scopes([scope]).issue().await;
        assert_eq!(api.get(&token).await.status, status, "{scope}");
    }
    // A route that requires something takes a token in any case.
    assert_eq!(api.send_at("/write", &[]).await.status, StatusCode::UNAUTHORIZED);
}

/// A token that the API knows by the answer that issued it, and what introspection will say of it.
async fn issued_as(bench: &Bench, auth: &AuthLayer, facts: serde_json::Value) -> String {
    let token = issued(&bench.authlete, auth, "read").await;
    let mut answer = json!({ "action": "OK", "existent": true, "usable": true, "clientId": 1 });
    let facts = facts.as_object().unwrap().clone();
    answer.as_object_mut().unwrap().extend(facts);
    bench.authlete.fault(Fault::json(answer).on(Api::Introspection));
    token
}

#[tokio::test]
async fn a_route_without_cache_checks_the_certificate_binding() {
    let bench = Bench::new().await;
    let auth = bench.layer().build().unwrap();
    let api = Protected::new(&auth);
    let facts = json!({ "scopes": ["write"], "certificateThumbprint": "abc" });
    let token = issued_as(&bench, &auth, facts).await;
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_route_without_cache_uses_the_settings_of_its_layer() {
    let bench = Bench::new().await;
    let alice = Require::when("for alice", |token| token.scopes().contains("read"));
    let auth = bench.layer().require(Require::any_scope(["read", "all"])).build().unwrap();
    let router = Router::new().route("/", get(|| async { "in" }).route_layer(alice));
    let api = Protected::with_routes(&auth, router);
    let token = issued_as(&bench, &auth, json!({ "scopes": [] })).await;
    assert_eq!(api.get(&token).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_test_is_not_passed_by_what_is_missing_from_what_an_issue_told() {
    let bench = Bench::new().await;
    let no_robots = || Require::when("not for robots", |token| token.acr() != Some("robot"));
    for by_layer in [false, true] {
        let layer = bench.layer();
        let layer = if by_layer { layer.require(no_robots()) } else { layer };
        let auth = layer.build().unwrap();
        let handler = get(|| async { "in" });
        let handler = if by_layer { handler } else { handler.route_layer(no_robots()) };
        let api = Protected::with_routes(&auth, Router::new().route("/", handler));
        for (acr, status) in [("robot", StatusCode::FORBIDDEN), ("human", StatusCode::OK)] {
            let token = issued_as(&bench, &auth, json!({ "acr": acr })).await;
            assert_eq!(api.get(&token).await.status, status, "{acr} {by_layer}");
            bench.authlete.clear_faults();
        }
    }
}
