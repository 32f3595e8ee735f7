//! How requests are parsed, and what is refused without a call to Authlete.

use axum::{Router, body::Body};
use http::{HeaderValue, Request, StatusCode};
use serde_json::json;
use tower_authlete::{
    AuthLayer,
    emulator::{Api, Fault},
    endpoint::TokenEndpoint,
};

use crate::{
    authorization_server::{PASSWORD, Server, basic_of, body_of, post, with_credentials},
    keys::Key,
    support::{Bench, send},
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Percent-encodes every byte, as clients may do (RFC 6749 Appendix B).
fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn only_posted_forms_within_the_size_limit_are_read() {
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
async fn a_repeated_or_malformed_parameter_is_refused_without_a_call() {
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
async fn an_empty_parameter_counts_as_omitted() {
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
async fn unreadable_credentials_are_refused_without_a_call() {
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
async fn errors_have_the_status_and_body_of_rfc_6749() {
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

#[tokio::test]
async fn a_dpop_nonce_is_relayed() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let content = r#"{"error":"use_dpop_nonce"}"#;
    let body = json!({
        "action": "BAD_REQUEST", "dpopNonce": "n-1", "responseContent": content,
    });
    bench.authlete.fault(Fault::json(body).on(Api::Token));
    let answer = server.post("/token", PASSWORD).await;
    assert_eq!(answer.headers["dpop-nonce"], "n-1");
    assert_eq!(answer.body, content);
}
