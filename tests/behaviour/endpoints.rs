//! The token and revocation endpoints, and what the layer learns from them.

use std::time::Duration;

use axum::{Router, body::Body};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tower_authlete::{
    AuthLayer, AuthLayerBuilder, Require, RequireScopes,
    api::{GrantType, TokenAction, TokenCreateRequest, TokenFailReason},
    emulator::{Api, Fault},
    endpoint::{Decision, RevocationEndpoint, TokenEndpoint},
};
use tracing::Level;

use crate::{
    log::logged,
    support::{Answer, Bench, Protected, send},
};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// An API, and beside it the endpoints.
struct Server<'b> {
    bench: &'b Bench,
    api: Protected,
    endpoints: Router,
}

impl<'b> Server<'b> {
    fn new(bench: &'b Bench) -> Self {
        Self::with(bench, |layer| layer)
    }

    fn with(bench: &'b Bench, settings: fn(AuthLayerBuilder) -> AuthLayerBuilder) -> Self {
        let auth: AuthLayer = settings(bench.layer()).build().unwrap();
        let (authlete, handle) = (bench.authlete.authlete(), auth.handle());
        let client = bench.authlete.client_id();
        let token =
            TokenEndpoint::new(authlete.clone(), &handle).decide(move |request| async move {
                match request.action {
                    TokenAction::Password if request.username.as_deref() == Some("alice") => {
                        Decision::issue_with("alice", [("plan", "gold")])
                    }
                    TokenAction::Password => {
                        Decision::refuse(TokenFailReason::InvalidResourceOwnerCredentials)
                    }
                    TokenAction::TokenExchange => Decision::create(
                        TokenCreateRequest::new()
                            .grant_type(GrantType::TokenExchange)
                            .client_id(client)
                            .subject(request.subject_token_info.unwrap().subject.unwrap())
                            .scopes(request.scopes),
                    ),
                    _ => Decision::refuse(TokenFailReason::Unknown),
                }
            });
        let endpoints = Router::new()
            .route_service("/token", token)
            .route_service("/revoke", RevocationEndpoint::new(authlete, &handle));
        Self { bench, api: Protected::new(&auth), endpoints }
    }

    fn basic(&self) -> String {
        use base64::{Engine, prelude::BASE64_STANDARD};

        let authlete = &self.bench.authlete;
        let pair = format!("{}:{}", authlete.client_id(), authlete.client_secret());
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        self.post_with(path, form, &[("authorization", &self.basic())]).await
    }

    async fn post_with(&self, path: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
        let request =
            Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Body::from(form.to_owned())).unwrap();
        let answer = send(self.endpoints.clone(), request).await;
        assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
        assert_eq!(answer.header(header::PRAGMA), "no-cache");
        answer
    }

    /// The tokens of a successful answer.
    async fn tokens(&self, form: &str) -> (String, String) {
        let answer = self.post("/token", form).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let body = body_of(&answer);
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (text("access_token"), text("refresh_token"))
    }
}

fn body_of(answer: &Answer) -> Value {
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
    serde_json::from_str(&answer.body).unwrap()
}

fn refresh(token: &str) -> String {
    format!("grant_type=refresh_token&refresh_token={token}")
}

const PASSWORD: &str = "grant_type=password&username=alice&password=x&scope=read";

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
            let token =
                TokenEndpoint::new(authlete, &handle).decide(async |_| Decision::issue("alice"));
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
async fn what_is_known_by_asking_is_not_overwritten_by_less() {
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
async fn a_token_that_now_exists_leaves_the_bad_ones() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    assert_eq!(server.api.get("chosen").await.status, StatusCode::UNAUTHORIZED);
    issue_bare(&bench, "chosen");
    server.tokens("grant_type=client_credentials").await;
    assert_eq!(server.api.get("chosen").await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_token_that_a_refresh_replaced_is_forgotten() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (old, refresh_token) = server.tokens(PASSWORD).await;
    assert_eq!(server.api.get(&old).await.status, StatusCode::OK);
    let (new, _) = server.tokens(&refresh(&refresh_token)).await;
    assert_eq!(server.api.get(&old).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.api.get(&new).await.body, "alice");
    // The old one had to be asked about; the new one not.
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn what_is_revoked_is_forgotten_before_the_answer() {
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
async fn without_a_decision_what_takes_one_is_unsupported() {
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
async fn what_the_issue_told_is_not_used_when_it_is_out_of_date() {
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
    let token = TokenEndpoint::new(bench.authlete.authlete(), &auth.handle())
        .decide(async |_| Decision::issue("alice"));
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
