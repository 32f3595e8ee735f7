//! Messages that are signed (RFC 9421): Authlete is told of requests, and responses are signed.

use std::sync::{Arc, Mutex};

use http::{HeaderValue, StatusCode};
use tower_authlete::{MessageSignatures, api::IntrospectionRequest};

use crate::support::Bench;

const ORIGIN: &str = "https://api.example.com";

fn signing() -> MessageSignatures {
    MessageSignatures::at(ORIGIN).signer(|token, response| {
        let subject = token.subject().ok_or("no subject")?;
        response.headers.insert("signature", HeaderValue::from_str(subject)?);
        Ok(())
    })
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
async fn without_a_signer_such_a_token_is_refused_also_from_the_cache() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().subject("alice").response_signing_required().issue().await;
    let unsigning = MessageSignatures::at(ORIGIN);
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
    let seen: Arc<Mutex<Vec<IntrospectionRequest>>> = Arc::default();
    let authlete = {
        let (seen, transport) = (seen.clone(), bench.authlete.client_builder());
        let plain = tower_authlete::api::Transport::new(
            tower_authlete::api::TlsRoots::None,
            std::time::Duration::from_secs(1),
        )
        .unwrap();
        let spy = tower::ServiceBuilder::new()
            .map_request(move |request: http::Request<http_body_util::Full<bytes::Bytes>>| {
                let body = http_body_util::BodyExt::collect(request.body().clone());
                let body = futures_util::FutureExt::now_or_never(body).unwrap().unwrap().to_bytes();
                seen.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                request
            })
            .service(plain);
        transport.transport(spy).build().unwrap()
    };
    let auth = tower_authlete::AuthLayer::builder(authlete)
        .clock(bench.clock.clone())
        .message_signatures(signing())
        .build()
        .unwrap();
    let api = crate::support::Protected::new(&auth);
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
