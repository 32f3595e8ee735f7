//! Credentials are parsed strictly, and malformed ones are never sent to Authlete.

use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use proptest::prelude::*;
use tower_authlete::credentials::{CookieToken, HeaderToken};

use crate::support::{Answer, Bench, send};

#[tokio::test]
async fn without_credentials_the_challenge_has_no_error_code() {
    let bench = Bench::new().await;
    let api = bench.api();
    for headers in [&[][..], &[("authorization", "Basic YWxpY2U6cHc=")], &[("cookie", "token=abc")]]
    {
        let answer = api.send(headers).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.challenge(), "Bearer");
    }
    assert_eq!(bench.authlete.total_calls(), 0);
}

#[tokio::test]
async fn a_token_passes_in_any_case_of_its_scheme() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR "] {
        let answer = api.send(&[("authorization", &format!("{scheme} {token}"))]).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"), "{scheme}");
    }
}

#[tokio::test]
async fn malformed_credentials_are_400_and_never_sent_upstream() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    let long = format!("Bearer {}", "a".repeat(16 * 1024 + 1));
    let good = format!("Bearer {token}");
    let two_in_one = format!("Bearer {token}, Bearer {token}");
    for headers in [
        &[("authorization", "Bearer")][..],
        &[("authorization", "Bearer ")],
        &[("authorization", "")],
        &[("authorization", "Bearer a b")],
        &[("authorization", "Bearer \"a\"")],
        &[("authorization", "Bearer é")],
        &[("authorization", &long)],
        &[("authorization", &two_in_one)],
        &[("authorization", &good), ("authorization", &good)],
        &[("authorization", &good), ("authorization", "Basic YWxpY2U6cHc=")],
    ] {
        let answer = api.send(headers).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{headers:?}");
        assert!(answer.challenge().starts_with("Bearer error=\"invalid_request\""), "{answer:?}");
    }
    assert_eq!(bench.authlete.total_calls(), 0);
}

#[tokio::test]
async fn the_longest_token_is_a_setting() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.max_token_length(10));
    assert_eq!(api.get(&"a".repeat(11)).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(bench.introspections(), 0);
    assert_eq!(api.get(&"a".repeat(10)).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn the_query_and_other_headers_are_not_looked_at() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    let answer = api.send_at(&format!("/?access_token={token}"), &[("x-token", &token)]).await;
    assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, "Bearer"));
}

#[tokio::test]
async fn other_places_are_looked_at_if_they_are_named() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        let header = HeaderName::from_static("x-token");
        layer.token_source(HeaderToken::new(header)).token_source(CookieToken::new("token"))
    });
    let token = bench.authlete.token().subject("alice").issue().await;
    let cookie = format!("a=b; token={token}; c=d");
    let authorization = format!("Bearer {token}");
    for header in
        [("x-token", token.as_str()), ("cookie", &cookie), ("authorization", &authorization)]
    {
        assert_eq!(api.send(&[header]).await.body, "alice", "{}", header.0);
    }
    // RFC 6750 §2: a client must not use more than one method in a request.
    let answer = api.send(&[("x-token", &token), ("cookie", &cookie)]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let answer = api.send(&[("x-token", "not a token")]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn credentials_go_on_marked_sensitive_or_not_at_all() {
    async fn inside(bench: &Bench, strip: bool) -> Option<HeaderValue> {
        let layer = bench.layer();
        let layer = if strip { layer.strip_credentials() } else { layer };
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let router = axum::Router::new()
            .fallback(move |headers: http::HeaderMap| async move {
                sender.send(headers.get(header::AUTHORIZATION).cloned()).await.unwrap();
            })
            .layer(layer.build().unwrap());
        let token = bench.authlete.token().issue().await;
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        send(router, request.body(axum::body::Body::empty()).unwrap()).await;
        receiver.recv().await.unwrap()
    }
    let bench = Bench::new().await;
    assert!(inside(&bench, false).await.unwrap().is_sensitive());
    assert_eq!(inside(&bench, true).await, None);
}

#[test]
fn no_header_whatever_panics_or_sends_what_is_illegal_upstream() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::new());
    let api = bench.api();
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        "(?i)(bearer|dpop|basic)[ \t]{0,3}[ -~]{0,40}".prop_map(String::into_bytes),
        "Bearer [a-zA-Z0-9._~+/-]{0,20}={0,3}".prop_map(String::into_bytes),
    ];
    let values = prop::collection::vec(bytes, 0..3);
    proptest!(ProptestConfig::with_cases(1000), |(values in values)| {
        let values: Vec<_> =
            values.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()).collect();
        let mut request = Request::get("/").body(axum::body::Body::empty()).unwrap();
        for value in &values {
            request.headers_mut().append(header::AUTHORIZATION, value.clone());
        }
        let before = bench.authlete.total_calls();
        let answer: Answer = runtime.block_on(send(api.router.clone(), request));
        let asked = bench.authlete.total_calls() - before;
        prop_assert!(asked == 0 || (values.len() == 1 && is_legal(&values[0])));
        let unauthorized = answer.status == StatusCode::UNAUTHORIZED;
        prop_assert!(unauthorized || answer.status == StatusCode::BAD_REQUEST);
        prop_assert!(!answer.challenge().is_empty());
    });
}

/// An independent implementation of RFC 6750 §2.1.
fn is_legal(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else {
        return false;
    };
    let Some((scheme, token)) = text.split_once(' ') else {
        return false;
    };
    let token = token.trim_start_matches(' ');
    let body = token.trim_end_matches('=');
    scheme.eq_ignore_ascii_case("bearer")
        && !body.is_empty()
        && body.chars().all(|char| char.is_ascii_alphanumeric() || "-._~+/".contains(char))
}
