//! What the layer stores of a token that the token endpoint issues.

use std::time::Duration;

use axum::Router;
use http::StatusCode;
use serde_json::json;
use tower_authlete::{
    AuthLayer, AuthLayerBuilder, CachePolicy, Require, RequireScopes,
    api::{GrantType, TokenCreateRequest},
    emulator::{Api, Fault},
    endpoint::{Decision, TokenEndpoint},
};

use crate::{
    authorization_server::{EXCHANGE, PASSWORD, Server, bearer_token, body_of, refresh, router},
    support::{Bench, Protected},
};

/// Makes `/auth/token` issue this token without any facts.
fn issue_bare(bench: &Bench, token: &str) {
    let content = json!({ "access_token": token, "token_type": "Bearer" });
    let body = json!({ "action": "OK", "responseContent": content.to_string() });
    bench.authlete.fault(Fault::json(body).on(Api::Token).times(1));
}

#[tokio::test]
async fn the_first_use_of_an_issued_token_calls_nobody() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let inbound = bench.authlete.token().subject("alice").issue().await;
    let exchange = format!(
        "grant_type={EXCHANGE}&scope=read&subject_token={inbound}\
         &subject_token_type=urn:ietf:params:oauth:token-type:access_token"
    );
    for (form, body) in [
        ("grant_type=client_credentials&scope=read", "nobody"),
        (PASSWORD, "alice"),
        (&exchange, "alice"),
    ] {
        let (token, _) = server.tokens(form).await;
        let answer = server.api.get_at("/read", &token).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, body), "{form}");
    }
    assert_eq!(bench.introspections(), 0);
}

#[tokio::test]
async fn the_response_of_an_exchange_names_the_type_of_the_token() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let inbound = bench.authlete.token().subject("alice").issue().await;
    let form = format!(
        "grant_type={EXCHANGE}&subject_token={inbound}\
         &subject_token_type=urn:ietf:params:oauth:token-type:access_token"
    );
    let body = body_of(&server.post("/token", &form).await);
    let expected = "urn:ietf:params:oauth:token-type:access_token";
    assert_eq!(body["issued_token_type"], expected);
    assert_eq!(body["token_type"], "Bearer");
}

#[tokio::test]
async fn a_token_that_may_be_bound_is_introspected_at_its_first_use() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    // Authlete ignores the proof, so that the token is a bearer token. The endpoint cannot know that.
    bench.authlete.fault(Fault::json(bearer_token(&bench).await).on(Api::Token));
    let headers = [("authorization", &*server.basic()), ("dpop", "proof")];
    let answer = server.post_with("/token", PASSWORD, &headers).await;
    let token = body_of(&answer)["access_token"].as_str().unwrap().to_owned();
    assert_eq!(server.api.get(&token).await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_requirement_of_a_missing_fact_is_introspected() {
    let bench = Bench::new().await;
    for on_layer in [false, true] {
        let settings: fn(AuthLayerBuilder) -> AuthLayerBuilder =
            if on_layer { |layer| layer.require(Require::acr(["gold"])) } else { |layer| layer };
        let mut server = Server::with(&bench, settings);
        if !on_layer {
            // The requirement is that of a route inside the layer.
            let auth = bench.layer().build().unwrap();
            server = Server { api: Protected::new(&auth), ..server };
            let token = TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle())
                .decide(async |_| Decision::issue("alice"));
            server.endpoints = router(token, None);
            server.api.router = Router::new()
                .route("/", axum::routing::get(|| async {}).route_layer(Require::acr(["gold"])))
                .route(
                    "/read",
                    axum::routing::get(|| async {}).route_layer(RequireScopes::all(["read"])),
                )
                .layer(auth);
        }
        let (token, _) = server.tokens(PASSWORD).await;
        let before = bench.introspections();
        // The introspection has no `acr` either, and decides.
        let answer = server.api.get(&token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.challenge().contains("insufficient_user_authentication"), "{answer:?}");
        assert_eq!(bench.introspections() - before, 1);
        // Now the facts are complete.
        server.api.get(&token).await;
        assert_eq!(bench.introspections() - before, 1);
    }
}

#[tokio::test]
async fn a_token_that_needs_signed_responses_is_refused_by_a_route_without_a_signer() {
    let bench = Bench::new().await;
    let auth = bench.layer().build().unwrap();
    let server = Server::new(&bench);
    let token = TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle())
        .decide(async |_| Decision::issue("alice"));
    let mut api = Protected::new(&auth);
    api.router = Router::new()
        .route("/", axum::routing::get(|| async {}).route_layer(Require::acr(["gold"])))
        .layer(auth);
    let server = Server { api, endpoints: router(token, None), ..server };
    for (signed, expected) in [(false, StatusCode::OK), (true, StatusCode::INTERNAL_SERVER_ERROR)] {
        let (token, _) = server.tokens(PASSWORD).await;
        let body = json!({
            "action": "OK", "subject": "alice", "acr": "gold", "responseSigningRequired": signed,
        });
        bench.authlete.fault(Fault::json(body).on(Api::Introspection).times(1));
        assert_eq!(server.api.get(&token).await.status, expected, "{signed}");
    }
}

#[tokio::test]
async fn an_update_keeps_the_facts_of_the_issue() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (token, _) = server.tokens(PASSWORD).await;
    let request = tower_authlete::api::TokenUpdateRequest::new().scopes(["write"]);
    server.api.handle.update(&token, request).await.unwrap();
    assert_eq!(server.api.get_at("/write", &token).await.body, "alice");
    assert_eq!(bench.introspections(), 0);
}

#[tokio::test]
async fn an_issue_does_not_overwrite_an_introspection() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let token = bench.authlete.token().subject("alice").issue().await;
    assert_eq!(server.api.get(&token).await.body, "alice");
    issue_bare(&bench, &token);
    server.tokens("grant_type=client_credentials").await;
    assert_eq!(server.api.get(&token).await.body, "alice");
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn an_issue_replaces_the_negative_entry_of_its_value() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    assert_eq!(server.api.get("chosen").await.status, StatusCode::UNAUTHORIZED);
    issue_bare(&bench, "chosen");
    server.tokens("grant_type=client_credentials").await;
    assert_eq!(server.api.get("chosen").await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_chosen_value_is_invalidated_if_the_response_of_its_creation_is_missing() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let client = bench.authlete.client_id();
    let token = TokenEndpoint::builder(bench.authlete.authlete(), &server.api.handle).decide(
        move |_| async move {
            let request = TokenCreateRequest::new().grant_type(GrantType::Password);
            Decision::create(request.client_id(client).subject("alice").access_token("chosen"))
        },
    );
    let server = Server { endpoints: router(token, None), ..server };
    assert_eq!(server.api.get("chosen").await.status, StatusCode::UNAUTHORIZED);
    bench.authlete.fault(Fault::reset().on(Api::TokenCreate).times(1));
    assert_eq!(server.post("/token", PASSWORD).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.api.get("chosen").await.body, "alice");
}

#[tokio::test]
async fn a_refreshed_token_is_introspected_since_it_may_be_bound() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let bound = bench.authlete.token().client_id(bench.authlete.client_id()).subject("alice");
    let bound = bound.certificate_thumbprint("abc").issue_with_refresh().await;
    let (new, _) = server.tokens(&refresh(bound.refresh_token.as_str())).await;
    assert_eq!(server.api.get(&new).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_issued_token_is_refused_after_its_expiry() {
    let bench = Bench::new().await;
    let server = Server::with(&bench, |layer| layer.max_age(Duration::from_secs(80_000)));
    let (token, _) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(Duration::from_secs(3600));
    assert_eq!(server.api.get(&token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_issued_token_is_not_served_stale() {
    let bench = Bench::new().await;
    let server = Server::with(&bench, |layer| {
        layer.cache(CachePolicy::new().stale_if_error(Duration::from_secs(600)))
    });
    let (token, _) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&token).await.body, "alice");
    bench.clock.advance(Duration::from_secs(60));
    bench.authlete.fault(Fault::status(503).on(Api::Introspection));
    assert_eq!(server.api.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn without_decide_grants_that_need_a_decision_are_unsupported() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let token = TokenEndpoint::new(bench.authlete.authlete(), &auth.handle());
    let endpoints = Router::new().route_service("/token", token);
    let server = Server { endpoints, ..Server::new(&bench) };
    let answer = server.post("/token", PASSWORD).await;
    assert_eq!(body_of(&answer)["error"], "unsupported_grant_type");
    for action in ["NATIVE_SSO", "ID_TOKEN_REISSUABLE"] {
        let body = format!(r#"{{"action":"{action}"}}"#);
        bench.authlete.fault(Fault::body(body).on(Api::Token).times(1));
        let answer = server.post("/token", "grant_type=x").await;
        assert_eq!(body_of(&answer)["error"], "unsupported_grant_type", "{action}");
    }
}
