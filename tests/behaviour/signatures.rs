//! Message signatures (RFC 9421): Authlete verifies those of requests, and responses are signed.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use futures_util::FutureExt;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use tower_authlete::{api::IntrospectionRequest, proof::MessageSignatures};

use crate::support::{Bench, ORIGIN, Protected, send};

fn signing() -> MessageSignatures {
    MessageSignatures::for_origin(ORIGIN).signer(|token, _request, response| {
        let subject = token.subject().ok_or("no subject")?;
        response.headers.insert("signature", HeaderValue::from_str(subject)?);
        Ok(())
    })
}

/// An API with message signatures, and the introspection requests that it makes.
fn watched(bench: &Bench) -> (Arc<Mutex<Vec<IntrospectionRequest>>>, Protected) {
    let seen: Arc<Mutex<Vec<IntrospectionRequest>>> = Arc::default();
    let told = seen.clone();
    let authlete = bench.watched(move |request| {
        let body = request.body().clone().collect().now_or_never().unwrap().unwrap().to_bytes();
        told.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    });
    let authlete = authlete.build().unwrap();
    let auth = tower_authlete::AuthLayer::builder(authlete)
        .clock(bench.clock.clone())
        .message_signatures(signing())
        .build()
        .unwrap();
    (seen, Protected::new(&auth))
}

#[tokio::test]
async fn responses_are_signed_for_tokens_that_take_it() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.message_signatures(signing()));
    let token = bench.authlete.token().subject("alice").response_signing_required().issue().await;
    let answer = api.get(&token).await;
    assert_eq!(
        (answer.status, &answer.headers["signature"]),
        (StatusCode::OK, &"alice".parse().unwrap())
    );
    let other = bench.authlete.token().subject("bob").issue().await;
    assert!(!api.get(&other).await.headers.contains_key("signature"));
}

#[tokio::test]
async fn without_a_signer_a_token_that_requires_signed_responses_is_refused() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().subject("alice").response_signing_required().issue().await;
    let unsigning = MessageSignatures::for_origin(ORIGIN);
    for api in [bench.api(), bench.api_with(|layer| layer.message_signatures(unsigning))] {
        for _ in 0..2 {
            assert_eq!(api.get(&token).await.status, StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}

#[tokio::test]
async fn a_response_that_cannot_be_signed_does_not_go_out() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.message_signatures(signing()));
    let token = bench.authlete.token().response_signing_required().issue().await;
    let answer = api.get(&token).await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, ""));
}

#[tokio::test]
async fn authlete_is_told_of_every_request() {
    let bench = Bench::new().await;
    let (seen, api) = watched(&bench);
    let token = bench.authlete.token().subject("alice").issue().await;
    let authorization = format!("Bearer {token}");
    for _ in 0..2 {
        let headers =
            [("authorization", &*authorization), ("signature", "a=:b:"), ("content-length", "3")];
        assert_eq!(api.send_at("/?a=b", &headers).await.status, StatusCode::OK);
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "it is never answered from the cache");
    let request = &seen[1];
    assert_eq!(request.target_uri.as_deref(), Some("https://api.example.com/?a=b"));
    assert_eq!(request.htm.as_deref(), Some("GET"));
    assert!(request.request_body_contained);
    let told = request.headers.as_ref().unwrap();
    assert!(
        told.iter().any(|pair| pair.key.as_deref() == Some("signature")
            && pair.value.as_deref() == Some("a=:b:"))
    );
}

#[tokio::test]
async fn a_header_that_is_not_utf8_is_not_told_as_something_else() {
    let bench = Bench::new().await;
    let (seen, api) = watched(&bench);
    let token = bench.authlete.token().subject("alice").issue().await;
    let get = async |headers: &[(&str, &[u8])]| {
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        let request = headers.iter().fold(request, |it, (name, value)| {
            it.header(*name, HeaderValue::from_bytes(value).unwrap())
        });
        send(api.router.clone(), request.body(Body::empty()).unwrap()).await.status
    };
    let input: &[u8] = b"sig=(\"@method\" \"x-signed\");created=1";
    let told = || seen.lock().unwrap().pop().unwrap().headers.unwrap();
    // A header that no signature covers is left out, with all its lines.
    let other: [(&str, &[u8]); 4] = [
        ("signature-input", input),
        ("x-signed", b"a"),
        ("x-city", b"b"),
        ("x-city", b"Z\xfcrich"),
    ];
    assert_eq!(get(&other).await, StatusCode::OK);
    let names: Vec<_> = told().into_iter().filter_map(|pair| pair.key).collect();
    assert_eq!(names, ["authorization", "signature-input", "x-signed"]);
    // UTF-8 values are sent unchanged.
    assert_eq!(get(&[("x-city", "Zürich".as_bytes())]).await, StatusCode::OK);
    assert!(told().iter().any(|pair| pair.value.as_deref() == Some("Zürich")));
    // A signature over one, or that is one, cannot be verified.
    let wrong: [&[(&str, &[u8])]; 4] = [
        &[("signature-input", input), ("x-signed", b"\xff")],
        &[
            ("signature-input", b"a=()"),
            ("signature-input", input),
            ("x-signed", b"a"),
            ("x-signed", b"\xff"),
        ],
        &[("signature-input", b"sig=(\"\xff\")")],
        &[("signature-input", input), ("signature", b"sig=:\xff:")],
    ];
    for headers in wrong {
        assert_eq!(get(headers).await, StatusCode::BAD_REQUEST, "{headers:?}");
    }
    assert!(seen.lock().unwrap().is_empty(), "Authlete is not asked");
}

#[tokio::test]
async fn the_signer_sees_the_request_that_it_answers() {
    let bench = Bench::new().await;
    let signatures =
        MessageSignatures::for_origin("https://example.com/api").signer(|_, request, response| {
            let signature = request.headers.get("signature").ok_or("no signature")?.to_str()?;
            // RFC 9421 §2.4: components of the request.
            let base = format!("{} {} {signature}", request.method, request.uri);
            response.headers.insert("signature", HeaderValue::from_str(&base)?);
            Ok(())
        });
    for strip in [false, true] {
        let api = bench.api_with(|layer| {
            let layer = layer.message_signatures(signatures.clone());
            if strip { layer.strip_credentials() } else { layer }
        });
        let token = bench.authlete.token().subject("alice").response_signing_required();
        let token = format!("Bearer {}", token.issue().await);
        let headers = [("authorization", &*token), ("signature", "sig=:AA==:")];
        let answer = api.send_at("/?a=b", &headers).await;
        assert_eq!(answer.status, StatusCode::OK);
        let expected = "GET https://example.com/api/?a=b sig=:AA==:";
        assert_eq!(answer.headers["signature"], expected);
    }
}

#[tokio::test]
async fn signatures_for_paths_with_dot_segments_are_refused() {
    let bench = Bench::new().await;
    let (seen, api) = watched(&bench);
    let token = format!("Bearer {}", bench.authlete.token().issue().await);
    for path in ["/../read", "/%2e%2E/read", "/read/."] {
        let answer = api.send_at(path, &[("authorization", &token)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    }
    assert!(seen.lock().unwrap().is_empty());
}
