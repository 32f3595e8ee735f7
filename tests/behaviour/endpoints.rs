//! The token and revocation endpoints, and what the layer learns from them.

use std::time::Duration;

use axum::{Router, body::Body};
use http::{HeaderValue, Request, StatusCode, header};
use serde_json::{Value, json};
use tower_authlete::{
    AuthLayer, AuthLayerBuilder, ClientCertificate, ClientCertificates, PeerAddr, Require,
    RequireScopes,
    api::{GrantType, TokenCreateRequest},
    emulator::{Api, Emulator, Fault},
    endpoint::{Decision, Limits, RevocationEndpoint, TokenEndpoint},
};
use tracing::Level;

use crate::{
    authorization_server::{
        PASSWORD, Server, basic_of, body_of, post, refresh, spawn_post, with_credentials,
    },
    keys::Key,
    log::logged,
    support::{Bench, Protected, rotation, send},
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

#[tokio::test]
async fn the_first_use_of_an_issued_token_asks_nobody() {
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
async fn an_exchange_says_what_it_issued() {
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

/// What `/auth/token` says when it issues a bearer token.
async fn bearer_token(bench: &Bench) -> Value {
    let token = bench.authlete.token().subject("alice").issue().await;
    let content = json!({ "access_token": token, "token_type": "Bearer" }).to_string();
    json!({ "action": "OK", "responseContent": content, "accessToken": token, "subject": "alice" })
}

#[tokio::test]
async fn a_token_that_may_be_bound_waits_for_its_first_introspection() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    // A proof that this service does not look at: the token is a bearer token all the same, but who
    // issues it cannot know.
    bench.authlete.fault(Fault::json(bearer_token(&bench).await).on(Api::Token));
    let headers = [("authorization", &*server.basic()), ("dpop", "proof")];
    let answer = server.post_with("/token", PASSWORD, &headers).await;
    let token = body_of(&answer)["access_token"].as_str().unwrap().to_owned();
    assert_eq!(server.api.get(&token).await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_requirement_of_a_fact_that_was_not_told_is_introspected() {
    let bench = Bench::new().await;
    for on_layer in [false, true] {
        let settings: fn(AuthLayerBuilder) -> AuthLayerBuilder =
            if on_layer { |layer| layer.require(Require::acr(["gold"])) } else { |layer| layer };
        let mut server = Server::with(&bench, settings);
        if !on_layer {
            // A route of its own inside the same layer.
            let auth = bench.layer().build().unwrap();
            server = Server { api: Protected::new(&auth), ..server };
            let (authlete, handle) = (bench.authlete.authlete(), auth.handle());
            let token = TokenEndpoint::builder(authlete, &handle)
                .decide(async |_| Decision::issue("alice"))
                .build()
                .unwrap();
            server.endpoints = Router::new().route_service("/token", token);
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
        // The emulator knows of no class either: it is asked, and the answer is what decides.
        let answer = server.api.get(&token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.challenge().contains("insufficient_user_authentication"), "{answer:?}");
        assert_eq!(bench.introspections() - before, 1);
        // Now all is known that can be.
        server.api.get(&token).await;
        assert_eq!(bench.introspections() - before, 1);
    }
}

#[tokio::test]
async fn an_update_changes_what_the_issue_told_and_loses_none_of_it() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (token, _) = server.tokens(PASSWORD).await;
    let request = tower_authlete::api::TokenUpdateRequest::new().scopes(["write"]);
    server.api.handle.update(&token, request).await.unwrap();
    assert_eq!(server.api.get_at("/write", &token).await.body, "alice");
    assert_eq!(bench.introspections(), 0);
}

/// `/auth/token` issues this token, and tells nothing else of it.
fn issue_bare(bench: &Bench, token: &str) {
    let content = serde_json::json!({ "access_token": token, "token_type": "Bearer" });
    let body = serde_json::json!({ "action": "OK", "responseContent": content.to_string() });
    bench.authlete.fault(Fault::body(body.to_string()).on(Api::Token).times(1));
}

#[tokio::test]
async fn what_an_introspection_told_is_not_overwritten_by_an_issue() {
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
async fn a_token_that_a_refresh_replaced_is_invalidated() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (old, refresh_token) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&old).await.status, StatusCode::OK);
    let (new, _) = server.tokens(&refresh(&refresh_token)).await;
    assert_eq!(server.api.get(&old).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.api.get(&new).await.body, "alice");
    // Both had to be asked about: the new one may be bound to what the old one was bound to.
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_revoked_token_is_invalidated_before_the_answer() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    for by_refresh_token in [false, true] {
        let (access, refresh) = server.tokens(PASSWORD).await;
        assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
        let token = if by_refresh_token { &refresh } else { &access };
        let answer = server.post("/revoke", &format!("token={token}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, ""));
        assert_eq!(server.api.get(&access).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn errors_have_their_status_and_body() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let wrong = "Basic YWxpY2U6cHc=";
    for (form, authorization, status, error) in [
        (PASSWORD, Some(wrong), StatusCode::UNAUTHORIZED, "invalid_client"),
        (PASSWORD, None, StatusCode::BAD_REQUEST, "invalid_client"),
        ("grant_type=x", Some(""), StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        (
            "grant_type=password&username=bob&password=x",
            Some(""),
            StatusCode::BAD_REQUEST,
            "invalid_grant",
        ),
        (
            &format!("grant_type={JWT_BEARER}&assertion=x"),
            Some(""),
            StatusCode::BAD_REQUEST,
            "invalid_request",
        ),
    ] {
        let basic = server.basic();
        let authorization = authorization.map(|it| if it.is_empty() { basic.as_str() } else { it });
        let headers: Vec<_> = authorization.map(|it| ("authorization", it)).into_iter().collect();
        let answer = server.post_with("/token", form, &headers).await;
        assert_eq!(answer.status, status, "{form}");
        assert_eq!(body_of(&answer)["error"], error, "{form}");
        let challenged = answer.challenge().starts_with("Basic ");
        assert_eq!(challenged, status == StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn only_forms_that_are_posted_and_not_too_large_are_read() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let form = ("content-type", "application/x-www-form-urlencoded; charset=UTF-8");
    for (method, kind, body, status) in [
        ("GET", form, String::new(), StatusCode::METHOD_NOT_ALLOWED),
        ("PUT", form, String::new(), StatusCode::METHOD_NOT_ALLOWED),
        (
            "POST",
            ("content-type", "application/json"),
            "{}".into(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        ("POST", ("x-none", "x"), "a=b".into(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("POST", form, "a".repeat(64 * 1024 + 1), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        for path in ["/token", "/revoke"] {
            let request = Request::builder().method(method).uri(path).header(kind.0, kind.1);
            let request = request.body(Body::from(body.clone())).unwrap();
            let answer = send(server.endpoints.clone(), request).await;
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(body_of(&answer)["error"], "invalid_request");
        }
    }
    assert_eq!(bench.authlete.total_calls(), 0);
}

#[tokio::test]
async fn an_outage_is_503_and_never_an_error_of_the_client() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    for (fault, status) in [
        (Fault::status(503), StatusCode::SERVICE_UNAVAILABLE),
        (Fault::reset(), StatusCode::SERVICE_UNAVAILABLE),
        (Fault::body("<html>"), StatusCode::SERVICE_UNAVAILABLE),
        (Fault::body(r#"{"action":"WHAT"}"#), StatusCode::SERVICE_UNAVAILABLE),
        (Fault::status(401), StatusCode::INTERNAL_SERVER_ERROR),
        (Fault::body("{}"), StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        bench.authlete.clear_faults();
        bench.authlete.fault(fault.clone());
        for (path, form) in [("/token", PASSWORD), ("/revoke", "token=abc")] {
            let answer = server.post(path, form).await;
            assert_eq!(answer.status, status, "{path} {fault:?}");
        }
    }
}

#[tokio::test]
async fn requests_of_an_outage_do_not_log_a_line_each() {
    let (log, _guard) = logged();
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    bench.authlete.fault(Fault::status(401));
    for _ in 0..20 {
        server.post("/token", PASSWORD).await;
        server.post("/revoke", "token=abc").await;
    }
    bench.clock.advance(Duration::from_secs(10));
    server.post("/token", PASSWORD).await;
    let lines = log.lines(Level::ERROR, "could not be answered");
    assert!(lines.len() == 2 && lines[1].contains("left_out=39"), "{lines:?}");
}

#[tokio::test]
async fn without_decide_grants_that_take_a_decision_are_unsupported() {
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

#[tokio::test]
async fn a_nonce_for_proofs_is_passed_on() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let content = r#"{"error":"use_dpop_nonce"}"#;
    let body = serde_json::json!({
        "action": "BAD_REQUEST", "dpopNonce": "n-1", "responseContent": content,
    });
    bench.authlete.fault(Fault::body(body.to_string()).on(Api::Token));
    let answer = server.post("/token", PASSWORD).await;
    assert_eq!(answer.headers["dpop-nonce"], "n-1");
    assert_eq!(answer.body, content);
}

#[tokio::test]
async fn an_issued_token_is_not_good_beyond_its_expiry() {
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
    let server = Server::with(&bench, |layer| layer.stale_on_error(Duration::from_secs(600)));
    let (token, _) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&token).await.body, "alice");
    bench.clock.advance(Duration::from_secs(60));
    bench.authlete.fault(Fault::status(503).on(Api::Introspection));
    assert_eq!(server.api.get(&token).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_token_that_turns_out_to_take_signed_responses_is_refused_by_its_route() {
    let bench = Bench::new().await;
    let auth = bench.layer().build().unwrap();
    let server = Server::new(&bench);
    let token = TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle())
        .decide(async |_| Decision::issue("alice"))
        .build()
        .unwrap();
    let mut api = Protected::new(&auth);
    api.router = Router::new()
        .route("/", axum::routing::get(|| async {}).route_layer(Require::acr(["gold"])))
        .layer(auth);
    let endpoints = Router::new().route_service("/token", token);
    let server = Server { api, endpoints, ..server };
    for (signed, expected) in [(false, StatusCode::OK), (true, StatusCode::INTERNAL_SERVER_ERROR)] {
        let (token, _) = server.tokens(PASSWORD).await;
        let body = json!({
            "action": "OK", "subject": "alice", "acr": "gold", "responseSigningRequired": signed,
        });
        bench.authlete.fault(Fault::json(body).on(Api::Introspection).times(1));
        assert_eq!(server.api.get(&token).await.status, expected, "{signed}");
    }
}

/// Every byte percent-encoded, as a client may do (RFC 6749 Appendix B).
fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn a_repeated_or_malformed_parameter_is_refused_before_anybody_is_asked() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    for form in [
        "token=x&token=",
        "token=&token=x",
        "token=x&token=y",
        "token=x&token",
        "token=x&%74oken=y",
        "grant_type=client_credentials&scope=read&scope=write",
        "token=x&unknown=1&unknown=2",
        "token=%zz",
        "token=%f",
        "token=%ff",
        "%ff=x",
    ] {
        for path in ["/token", "/revoke"] {
            let answer = server.post(path, form).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {form}");
            assert_eq!(body_of(&answer)["error"], "invalid_request", "{path} {form}");
        }
    }
    assert_eq!(bench.authlete.total_calls(), 0);
}

#[tokio::test]
async fn resources_and_audiences_may_be_repeated() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let form = "grant_type=client_credentials&scope=read&audience=a&audience=b\
                &resource=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example&&empty=";
    let (token, _) = server.tokens(form).await;
    let request = tower_authlete::api::IntrospectionRequest::new().token(token);
    let told = bench.authlete.authlete().introspection(&request).await.unwrap();
    assert_eq!(told.access_token_resources, ["https://a.example", "https://b.example"]);
}

#[tokio::test]
async fn an_empty_parameter_is_an_omitted_one() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let answer = server.post("/revoke", "token=").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(body_of(&answer)["error"], "invalid_request");
}

#[tokio::test]
async fn credentials_of_basic_are_form_decoded() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (alias, secret) = (bench.authlete.client_id_alias(), bench.authlete.client_secret());
    let basic = basic_of(&percent_encoded(alias), &percent_encoded(secret));
    for (path, form) in [("/token", PASSWORD), ("/revoke", "token=abc")] {
        let answer = server.post_with(path, form, &[("authorization", &basic)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {answer:?}");
    }
}

#[tokio::test]
async fn unreadable_credentials_are_refused_before_anybody_is_asked() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let good = server.basic();
    for authorization in [
        &[&*basic_of("a%zz", "b")][..],
        &[&basic_of("a", "b%f")],
        &[&basic_of("%ff", "b")],
        &["Basic !"],
        &["Basic"],
        &["Basic YQ=="],
        &["Bearer abc"],
        &[&good, &good],
    ] {
        let headers: Vec<_> = authorization.iter().map(|it| ("authorization", *it)).collect();
        for (path, form) in [("/token", PASSWORD), ("/revoke", "token=abc")] {
            let answer = server.post_with(path, form, &headers).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {authorization:?}");
            assert_eq!(body_of(&answer)["error"], "invalid_client");
            assert!(answer.challenge().starts_with("Basic "), "{answer:?}");
        }
    }
    assert_eq!(bench.authlete.total_calls(), 0);
}

#[tokio::test]
async fn a_call_that_is_not_answered_counts_as_done() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    for fault in [Fault::truncated(), Fault::reset()] {
        for (path, api) in [("/token", Api::Token), ("/revoke", Api::Revocation)] {
            let (access, used) = server.tokens(PASSWORD).await;
            assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
            let form = if path == "/token" { refresh(&used) } else { format!("token={used}") };
            bench.authlete.fault(fault.clone().on(api).times(1));
            let answer = server.post(path, &form).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path} {fault:?}");
            let status = server.api.get(&access).await.status;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {fault:?}");
        }
    }
}

/// What `/auth/token` and `/auth/revocation` say, and whether they may have done what they were asked.
fn half_answers() -> [(Fault, bool); 8] {
    let says = |action: &str| Fault::body(format!(r#"{{"action":"{action}"}}"#));
    [
        (Fault::status(500), true),
        (Fault::status(503), true),
        (says("INTERNAL_SERVER_ERROR"), true),
        (says("OK"), true),
        (Fault::status(401), false),
        (Fault::status(429), false),
        (says("INVALID_CLIENT"), false),
        (says("BAD_REQUEST"), false),
    ]
}

#[tokio::test]
async fn a_refused_call_invalidates_nothing_and_an_unanswered_one_what_it_names() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    for (fault, may_be_done) in half_answers() {
        for (path, api) in [("/token", Api::Token), ("/revoke", Api::Revocation)] {
            let (access, used) = server.tokens(PASSWORD).await;
            assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
            let before = bench.introspections();
            bench.authlete.fault(fault.clone().on(api).times(1));
            let form = if path == "/token" { refresh(&used) } else { format!("token={used}") };
            server.post(path, &form).await;
            assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
            let asked = bench.introspections() - before;
            assert_eq!(asked, u64::from(may_be_done), "{path} {fault:?}");
            // Whatever became of the first attempt: the next one is answered.
            assert_eq!(server.post(path, &form).await.status, StatusCode::OK);
            let status = server.api.get(&access).await.status;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_strangers_revocation_invalidates_nothing() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (access, refresh) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
    let before = bench.introspections();
    let stranger = basic_of("mallory", "x");
    for token in [&access, &refresh] {
        for headers in [&[][..], &[("authorization", stranger.as_str())]] {
            let answer = server.post_with("/revoke", &format!("token={token}"), headers).await;
            assert_eq!(body_of(&answer)["error"], "invalid_client");
            assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
        }
    }
    assert_eq!(bench.introspections(), before);
}

#[tokio::test]
async fn a_strangers_revocation_does_not_delay_another() {
    let bench = Bench::new().await;
    let auth = bench.layer().rotate(rotation()).build().unwrap();
    let revoke = RevocationEndpoint::new(bench.authlete.authlete(), &auth.handle());
    let endpoints = Router::new().route_service("/revoke", revoke);
    let token = bench.authlete.token().issue().await;
    let hold = bench.authlete.hold(Api::Revocation);
    let request = post("/revoke", &format!("token={token}"), &[]);
    let stranger = tokio::spawn(send(endpoints, request));
    bench.authlete.arrived(Api::Revocation, 1).await;
    auth.handle().revoke(&token).await.unwrap();
    assert!(!stranger.is_finished());
    hold.release();
    assert_eq!(stranger.await.unwrap().status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_call_that_never_reached_authlete_invalidates_nothing() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (access, used) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
    // Nobody listens there.
    let nowhere = bench.authlete.client_builder().base_url("http://127.0.0.1:1").build().unwrap();
    let handle = &server.api.handle;
    let endpoints = Router::new()
        .route_service("/token", TokenEndpoint::new(nowhere.clone(), handle))
        .route_service("/revoke", RevocationEndpoint::new(nowhere, handle));
    let server = Server { endpoints, ..server };
    let before = bench.introspections();
    for (path, form) in [("/token", refresh(&used)), ("/revoke", format!("token={access}"))] {
        assert_eq!(server.post(path, &form).await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
    }
    assert_eq!(bench.introspections(), before);
}

#[tokio::test]
async fn a_refreshed_token_is_asked_about_since_it_may_be_bound_as_the_old_one_was() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let bound = bench.authlete.token().client_id(bench.authlete.client_id()).subject("alice");
    let bound = bound.certificate_thumbprint("abc").issue_with_refresh().await;
    let (new, _) = server.tokens(&refresh(bound.refresh_token.as_str())).await;
    assert_eq!(server.api.get(&new).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_value_that_was_chosen_may_exist_though_its_creation_was_not_answered() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let client = bench.authlete.client_id();
    let token = TokenEndpoint::builder(bench.authlete.authlete(), &server.api.handle)
        .decide(move |_| async move {
            let request = TokenCreateRequest::new().grant_type(GrantType::Password);
            Decision::create(request.client_id(client).subject("alice").access_token("chosen"))
        })
        .build()
        .unwrap();
    let endpoints = Router::new().route_service("/token", token);
    let server = Server { endpoints, ..server };
    assert_eq!(server.api.get("chosen").await.status, StatusCode::UNAUTHORIZED);
    bench.authlete.fault(Fault::reset().on(Api::TokenCreate).times(1));
    assert_eq!(server.post("/token", PASSWORD).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.api.get("chosen").await.body, "alice");
}

#[tokio::test]
async fn the_access_token_of_a_refresh_token_that_is_kept_or_honoured_once_more_is_found() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    // The service does not tell the refresh token again.
    let issued = bearer_token(&bench).await;
    let access = issued["accessToken"].as_str().unwrap();
    bench.authlete.fault(Fault::json(issued.clone()).on(Api::Token).times(1));
    server.tokens(&refresh("kept")).await;
    assert_eq!(server.api.get(access).await.status, StatusCode::OK);
    assert!(bench.authlete.revoke(access));
    bench.authlete.fault(Fault::json(bearer_token(&bench).await).on(Api::Token).times(1));
    server.tokens(&refresh("kept")).await;
    assert_eq!(server.api.get(access).await.status, StatusCode::UNAUTHORIZED);
}

/// Endpoints with these limits.
fn limited<'b>(bench: &'b Bench, limits: Limits) -> Server<'b> {
    let server = Server::new(bench);
    let (authlete, handle) = (bench.authlete.authlete(), &server.api.handle);
    let token = TokenEndpoint::builder(authlete.clone(), handle)
        .decide(async |_| Decision::issue("alice"))
        .limits(limits);
    let revoke = RevocationEndpoint::builder(authlete, handle).limits(limits);
    let endpoints = Router::new()
        .route_service("/token", token.build().unwrap())
        .route_service("/revoke", revoke.build().unwrap());
    Server { endpoints, ..server }
}

#[tokio::test]
async fn a_call_that_is_not_answered_by_the_deadline_counts_as_done() {
    for (path, api) in [("/token", Api::Token), ("/revoke", Api::Revocation)] {
        let bench = Bench::new().await;
        // Less than a call to Authlete may take.
        let server = limited(&bench, Limits::new().deadline(Duration::from_secs(1)));
        let (access, used) = server.tokens(PASSWORD).await;
        assert_eq!(server.api.get(&access).await.status, StatusCode::OK);
        let form = if path == "/token" { refresh(&used) } else { format!("token={used}") };
        let calls = bench.authlete.calls(api);
        let hold = bench.authlete.hold(api);
        let late = spawn_post(&server, path, &form);
        bench.authlete.arrived(api, calls + 1).await;
        tokio::time::pause();
        let before = tokio::time::Instant::now();
        let answer = late.await.unwrap();
        // A call to Authlete alone may take 3 s.
        assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
        tokio::time::resume();
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header(header::RETRY_AFTER), "1");
        assert_eq!(server.api.get(&access).await.status, StatusCode::UNAUTHORIZED, "{path}");
        drop(hold);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let bench = Bench::new().await;
    let server = limited(&bench, Limits::new().max_in_flight(1).max_waiting(0));
    for path in ["/token", "/revoke"] {
        let slow = || {
            let body = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
            Request::post(path)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from_stream(body))
                .unwrap()
        };
        // Nobody takes the place of another while its body is awaited.
        let slow = (0..10).map(|_| send(server.endpoints.clone(), slow()));
        for answer in futures_util::future::join_all(slow).await {
            assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{path}");
            assert_eq!(body_of(&answer)["error"], "invalid_request");
        }
    }
    assert_eq!(bench.authlete.total_calls(), 0);
}

#[tokio::test]
async fn requests_beyond_the_limits_are_503_at_once_and_a_client_that_leaves_makes_room() {
    let bench = Bench::new().await;
    let server = limited(&bench, Limits::new().max_in_flight(1).max_waiting(1));
    let form = "grant_type=client_credentials";
    let hold = bench.authlete.hold(Api::Token);
    let first = spawn_post(&server, "/token", form);
    bench.authlete.arrived(Api::Token, 1).await;
    let mut waiting = spawn_post(&server, "/token", form);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    tokio::task::yield_now().await;
    let beyond = server.post("/token", form).await;
    assert_eq!(beyond.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(beyond.header(header::RETRY_AFTER), "1");
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let mut next = spawn_post(&server, "/token", form);
    assert!(futures_util::poll!(&mut next).is_pending());
    // Who leaves while Authlete is asked keeps its turn until that has ended.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let beyond = server.post("/token", form).await;
    assert_eq!(beyond.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.authlete.calls(Api::Token), 1);
    hold.release();
    assert_eq!(next.await.unwrap().status, StatusCode::OK);
    assert_eq!(bench.authlete.calls(Api::Token), 2);
}

#[tokio::test]
async fn a_decision_that_takes_too_long_is_given_up() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let (begun, decides) = tokio::sync::oneshot::channel();
    let begun = std::sync::Mutex::new(Some(begun));
    let token = TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle())
        .decide(move |_| {
            begun.lock().unwrap().take().unwrap().send(()).unwrap();
            std::future::pending()
        })
        .build()
        .unwrap();
    let endpoints = Router::new().route_service("/token", token);
    let server = Server { endpoints, ..Server::new(&bench) };
    let late = spawn_post(&server, "/token", PASSWORD);
    decides.await.unwrap();
    tokio::time::pause();
    assert_eq!(late.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.authlete.total_calls(), 1);
}

#[tokio::test]
async fn a_token_is_bound_to_the_certificate_that_its_client_presented() {
    let clock = tower_authlete::Clock::system();
    let authlete = Emulator::builder().clock(clock.clone()).certificate_bound_tokens(true);
    let bench = Bench { authlete: authlete.start().await.unwrap(), clock };
    let certificates = ClientCertificates::from_connection;
    let auth: AuthLayer = bench.layer().client_certificates(certificates()).build().unwrap();
    let token = TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle())
        .client_certificates(certificates());
    let endpoints = Router::new().route_service("/token", token.build().unwrap());
    let server = Server { bench: &bench, api: Protected::new(&auth), endpoints };
    let holder = ClientCertificate::from_der(&b"0\x03\x02\x01\x05"[..]);

    let form = "grant_type=client_credentials&scope=read";
    let mut request = post("/token", form, &[("authorization", &server.basic())]);
    request.extensions_mut().insert(holder.clone());
    let answer = send(server.endpoints.clone(), request).await;
    let token = body_of(&answer)["access_token"].as_str().unwrap().to_owned();
    let get = async |certificate: Option<&ClientCertificate>| {
        let request = Request::get("/read").header("authorization", format!("Bearer {token}"));
        let mut request = request.body(Body::empty()).unwrap();
        certificate.map(|it| request.extensions_mut().insert(it.clone()));
        send(server.api.router.clone(), request).await.status
    };
    let thief = ClientCertificate::from_der(&b"0\x03\x02\x01\x06"[..]);
    assert_eq!(get(None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(get(Some(&thief)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(get(Some(&holder)).await, StatusCode::OK);
}

#[tokio::test]
async fn a_certificate_that_a_proxy_garbles_is_refused_before_anybody_is_asked() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let (authlete, handle) = (bench.authlete.authlete(), auth.handle());
    let proxies = || ClientCertificates::from_client_cert_header(["10.0.0.0/8"]);
    let token = TokenEndpoint::builder(authlete.clone(), &handle).client_certificates(proxies());
    let revoke = RevocationEndpoint::builder(authlete, &handle).client_certificates(proxies());
    let endpoints = Router::new()
        .route_service("/token", token.build().unwrap())
        .route_service("/revoke", revoke.build().unwrap());
    for path in ["/token", "/revoke"] {
        let mut request = post(path, "token=abc", &[("client-cert", "rubbish")]);
        request.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
        let answer = send(endpoints.clone(), request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(body_of(&answer)["error"], "invalid_request");
    }
    assert_eq!(bench.authlete.total_calls(), 0);
}

#[tokio::test]
async fn a_wrong_setting_is_named_when_the_endpoint_is_built() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let token = || TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle());
    let revoke = || RevocationEndpoint::builder(bench.authlete.authlete(), &auth.handle());
    let none = Limits::new().max_in_flight(0);
    let garbled = || ClientCertificates::from_envoy(["localhost"]);
    for (setting, error) in [
        ("url", token().url("as.example.com/token").build().unwrap_err()),
        ("limits.max_in_flight", token().limits(none).build().unwrap_err()),
        ("limits.max_in_flight", revoke().limits(none).build().unwrap_err()),
        ("client_certificates", token().client_certificates(garbled()).build().unwrap_err()),
        ("client_certificates", revoke().client_certificates(garbled()).build().unwrap_err()),
    ] {
        assert_eq!(error.setting(), setting);
    }
}

#[tokio::test]
async fn authlete_is_told_the_path_of_a_clients_certificate() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use http_body_util::BodyExt;

    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let authlete = bench.watched(move |request| told.send(request.body().clone()).unwrap());
    let authlete = authlete.build().unwrap();
    let (certificates, handle) = (ClientCertificates::from_connection, auth.handle());
    let token =
        TokenEndpoint::builder(authlete.clone(), &handle).client_certificates(certificates());
    let revoke = RevocationEndpoint::builder(authlete, &handle).client_certificates(certificates());
    let endpoints = Router::new()
        .route_service("/token", token.build().unwrap())
        .route_service("/revoke", revoke.build().unwrap());
    let path = [&b"0\x01\x02"[..], &b"0\x01\x03"[..]];
    let certificate = ClientCertificate::from_der(&b"0\x01\x01"[..]).with_path(path);
    for endpoint in ["/token", "/revoke"] {
        let mut request = post(endpoint, "token=abc", &[]);
        request.extensions_mut().insert(certificate.clone());
        send(endpoints.clone(), request).await;
        let body = heard.recv().await.unwrap().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["clientCertificate"], certificate.to_pem());
        let told = body["clientCertificatePath"].as_array().unwrap().iter();
        let told: Vec<_> = told.map(|pem| pem.as_str().unwrap().lines().nth(1).unwrap()).collect();
        assert_eq!(told, path.map(|der| BASE64_STANDARD.encode(der)), "{endpoint}");
    }
}

#[tokio::test]
async fn a_token_request_has_at_most_one_proof_of_legal_characters() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let endpoint = TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle())
        .url("https://as.example.com/token")
        .build()
        .unwrap();
    let key = Key::es256();
    let one = key.proof(json!({ "htm": "POST", "htu": "https://as.example.com/token" }));
    let form = with_credentials(&bench.authlete, "grant_type=client_credentials&scope=read");
    for proofs in [&[&*one, "garbage"][..], &["\u{e9}"]] {
        let mut request = post("/token", &form, &[]);
        for proof in proofs {
            let proof = HeaderValue::from_bytes(proof.as_bytes()).unwrap();
            request.headers_mut().append("dpop", proof);
        }
        let answer = send(Router::new().route_service("/token", endpoint.clone()), request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{proofs:?}: {}", answer.body);
    }
}
