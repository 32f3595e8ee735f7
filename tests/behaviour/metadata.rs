//! Metadata of the protected resource (RFC 9728).

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tower_authlete::{Dpop, metadata::ProtectedResource, proof::DpopAlgorithm};

use crate::support::{Answer, Bench, Protected, send};

const IDENTIFIER: &str = "https://api.example.com/mcp";

async fn api(bench: &Bench) -> (ProtectedResource, Protected) {
    let dpop = Dpop::for_origin("https://api.example.com").algorithms([DpopAlgorithm::Es256]);
    let resource = ProtectedResource::builder(IDENTIFIER)
        .authorization_server("https://as.example.com")
        .scopes(["read", "write"])
        .name("Reports")
        .documentation("https://api.example.com/docs")
        .dpop(&dpop)
        .member("tls_client_certificate_bound_access_tokens", true)
        .build()
        .unwrap();
    let auth = bench.layer().protected_resource(&resource).require(resource.audience());
    let api = Protected::new(&auth.build().unwrap());
    let router = api.router.clone().route_service(resource.path(), resource.service());
    (resource, Protected { router, ..api })
}

async fn ask(api: &Protected, method: Method, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    send(api.router.clone(), request).await
}

#[tokio::test]
async fn a_client_finds_the_metadata_by_the_challenge() {
    let bench = Bench::new().await;
    let (_, api) = api(&bench).await;
    let answer = api.send(&[]).await;
    let (_, url) = answer.challenge().split_once("resource_metadata=\"").unwrap();
    let path = url.trim_end_matches('"').strip_prefix("https://api.example.com").unwrap();
    assert_eq!(path, "/.well-known/oauth-protected-resource/mcp");
    let answer = ask(&api, Method::GET, path).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
    let expected = json!({
        "resource": IDENTIFIER,
        "authorization_servers": ["https://as.example.com"],
        "scopes_supported": ["read", "write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Reports",
        "resource_documentation": "https://api.example.com/docs",
        "dpop_signing_alg_values_supported": ["ES256"],
        "dpop_bound_access_tokens_required": false,
        "tls_client_certificate_bound_access_tokens": true,
    });
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), expected);
    assert_eq!(ask(&api, Method::POST, path).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn every_challenge_tells_also_those_of_authlete_and_of_routes() {
    let bench = Bench::new().await;
    let (_, api) = api(&bench).await;
    let token = bench.authlete.token().resources([IDENTIFIER]).issue().await;
    for answer in [api.get("rubbish").await, api.get_at("/write", &token).await] {
        assert!(answer.challenge().contains("error="), "{answer:?}");
        assert!(answer.challenge().contains("resource_metadata=\"https://api"), "{answer:?}");
    }
}

#[tokio::test]
async fn tokens_for_another_resource_are_refused() {
    let bench = Bench::new().await;
    let (_, api) = api(&bench).await;
    for (resources, status) in [
        (vec![IDENTIFIER], StatusCode::OK),
        (vec!["https://api.example.com/other"], StatusCode::UNAUTHORIZED),
        (vec![], StatusCode::UNAUTHORIZED),
    ] {
        let token = bench.authlete.token().resources(resources).issue().await;
        assert_eq!(api.get(&token).await.status, status);
    }
}

#[tokio::test]
async fn clients_in_browsers_may_read_it_whatever_headers_they_send() {
    let bench = Bench::new().await;
    let (resource, api) = api(&bench).await;
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri(resource.path())
        .header(header::ORIGIN, "https://inspector.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "GET")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,mcp-protocol-version");
    let answer = send(api.router.clone(), preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
    let allowed = answer.header(header::ACCESS_CONTROL_ALLOW_METHODS);
    assert_eq!(allowed.split(',').collect::<Vec<_>>(), ["GET", "HEAD"]);
    let headers = answer.header(header::ACCESS_CONTROL_ALLOW_HEADERS);
    assert_eq!(headers, "authorization,mcp-protocol-version");
    assert_eq!(answer.header(header::ACCESS_CONTROL_MAX_AGE), "86400");
    assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let answer = ask(&api, method, resource.path()).await;
        assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
    }
}
