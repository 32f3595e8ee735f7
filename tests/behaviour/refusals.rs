//! Responses to refused requests.

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_authlete::{
    ProblemDetails, Require,
    emulator::Fault,
    rejection::{Reason, Refusal},
};

use crate::support::Bench;

#[tokio::test]
async fn every_refusal_is_not_to_be_stored() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    let mut answers = vec![
        api.send(&[]).await,
        api.get("a b").await,
        api.get("rubbish").await,
        api.get_at("/read", &token).await,
    ];
    bench.authlete.fault(Fault::status(503));
    answers.push(api.get("other").await);
    for answer in answers {
        assert_eq!(answer.header(header::CACHE_CONTROL), "no-store", "{answer:?}");
        assert_eq!(answer.body, "");
    }
}

#[tokio::test]
async fn authletes_own_challenge_is_passed_on() {
    let bench = Bench::new().await;
    let plain = bench.api().get("rubbish").await;
    assert!(plain.challenge().starts_with("Bearer error=\"invalid_token\""), "{plain:?}");
    assert!(plain.challenge().contains("error_uri=\"https://docs.authlete.com/#A057301\""));
    let named = bench.api_with(|layer| layer.realm("api")).get("rubbish").await;
    assert!(named.challenge().starts_with("Bearer realm=\"api\", error="), "{named:?}");
}

#[tokio::test]
async fn a_challenge_that_is_not_legal_is_replaced_by_ours() {
    for content in [
        json!("Bearer error=\"invalid_token\"\r\nset-cookie: a=b"),
        json!("<html>"),
        json!("Digest error=\"invalid_token\""),
        json!(""),
        json!(null),
        json!("Bearer error=\"ü\""),
        json!("Bearer error=\"invalid_token\", ERROR=\"insufficient_scope\""),
        json!("Bearer scope=\"a\", error=\"invalid_token\", scope=\"b\""),
    ] {
        let bench = Bench::new().await;
        let body = json!({ "action": "UNAUTHORIZED", "responseContent": content });
        bench.authlete.fault(Fault::body(body.to_string()));
        let answer = bench.api().get("abc").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let expected = "Bearer error=\"invalid_token\", \
                        error_description=\"the access token is unknown, expired or revoked\"";
        assert_eq!(answer.challenge(), expected, "{content}");
        assert_eq!(answer.headers.get("set-cookie"), None);
    }
}

#[tokio::test]
async fn a_description_holds_no_quotes_and_backslashes() {
    let bench = Bench::new().await;
    let description = r#"for "gold" \ members"#;
    let require = Require::when(description, |_| false);
    let api = bench.api_with(|layer| layer.require(require).renderer(ProblemDetails));
    let token = bench.authlete.token().issue().await;
    let answer = api.get(&token).await;
    let expected = r#"Bearer error="insufficient_scope", error_description="for 'gold' ? members""#;
    assert_eq!(answer.challenge(), expected);
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["detail"], description);

    let content = r#"Bearer error="invalid_token", error_description="\"abc\" \\ is none""#;
    let body = json!({ "action": "UNAUTHORIZED", "responseContent": content });
    bench.authlete.fault(Fault::body(body.to_string()));
    let expected = r#"Bearer error="invalid_token", error_description="'abc' ? is none""#;
    assert_eq!(bench.api().get("abc").await.challenge(), expected);
}

#[tokio::test]
async fn every_action_has_its_status() {
    for (action, status) in [
        ("OK", StatusCode::OK),
        ("BAD_REQUEST", StatusCode::BAD_REQUEST),
        ("UNAUTHORIZED", StatusCode::UNAUTHORIZED),
        ("FORBIDDEN", StatusCode::FORBIDDEN),
        ("INTERNAL_SERVER_ERROR", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let bench = Bench::new().await;
        bench.authlete.fault(Fault::body(json!({ "action": action }).to_string()));
        let answer = bench.api().get("abc").await;
        assert_eq!(answer.status, status, "{action}");
        let challenged = status.is_client_error();
        assert_eq!(answer.challenge().is_empty(), !challenged, "{action}");
    }
}

#[tokio::test]
async fn what_authlete_says_on_success_is_not_sent() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().issue().await;
    let answer = bench.api().get(&token).await;
    assert_eq!((answer.status, answer.challenge()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn problem_details_have_the_facts_of_the_challenge() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.renderer(ProblemDetails));
    let token = bench.authlete.token().issue().await;
    let answer = api.get_at("/read", &token).await;
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/problem+json");
    let expected = json!({
        "title": "Forbidden",
        "status": 403,
        "detail": "the access token lacks a scope that is required",
        "error": "insufficient_scope",
        "scope": "read",
    });
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), expected);
}

#[tokio::test]
async fn a_renderer_can_replace_all_of_it() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer.renderer(|refusal: &Refusal<'_>, _: Response<()>| {
            assert_eq!(refusal.rejection.reason(), Reason::NoCredentials);
            let mut response = Response::new(Body::from("go away"));
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response
        })
    });
    let answer = api.send(&[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::IM_A_TEAPOT, "go away"));
    assert_eq!(answer.challenge(), "");
}

#[tokio::test]
async fn bodies_need_not_be_axums() {
    let bench = Bench::new().await;
    let auth = bench.layer().renderer(ProblemDetails).build().unwrap();
    let service = auth.layer(service_fn(|_: http::Request<String>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let response = service.oneshot(http::Request::new("body".into())).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
}
