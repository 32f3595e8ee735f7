//! Requests of gRPC are refused as gRPC says: by trailers only.

use axum::body::Body;
use http::{Request, StatusCode, header};
use tower_authlete::{ProblemDetails, Renderer, emulator::Fault};

use crate::support::{Answer, Bench, Protected, send};

async fn call(api: &Protected, path: &str, token: &str, content_type: &str) -> Answer {
    let request = Request::get(path)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    send(api.router.clone(), request.body(Body::empty()).unwrap()).await
}

fn outcome(answer: &Answer) -> (&str, &str) {
    let text = |name: &str| answer.headers.get(name).map_or("", |value| value.to_str().unwrap());
    (text("grpc-status"), text("grpc-message"))
}

async fn refusals(bench: &Bench, api: &Protected) {
    let token = bench.authlete.token().subject("alice").issue().await;
    for content_type in ["application/grpc", "application/grpc+proto", "Application/gRPC-Web"] {
        for (path, token, status) in
            [("/", "rubbish", "16"), ("/write", &token, "7"), ("/", "a b", "3")]
        {
            let answer = call(api, path, token, content_type).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header(header::CONTENT_TYPE), content_type);
            assert_eq!(outcome(&answer).0, status, "{path}");
            assert!(!outcome(&answer).1.is_empty() && answer.body.is_empty());
            assert!(answer.challenge().starts_with("Bearer error="), "{}", answer.challenge());
        }
    }
    bench.authlete.fault(Fault::status(503));
    let answer = call(api, "/", "another", "application/grpc").await;
    assert_eq!((outcome(&answer).0, answer.challenge()), ("14", ""));
    bench.authlete.clear_faults();
    bench.authlete.fault(Fault::status(401));
    assert_eq!(outcome(&call(api, "/", "another", "application/grpc").await).0, "13");
    bench.authlete.clear_faults();
}

fn protected<R: Renderer<Body>>(bench: &Bench, renderer: R) -> Protected {
    bench.api_with(|layer| layer.renderer(renderer))
}

#[tokio::test]
async fn statuses_messages_and_challenges_are_told() {
    let bench = Bench::new().await;
    refusals(&bench, &bench.api()).await;
    refusals(&bench, &protected(&bench, ProblemDetails)).await;
}

#[tokio::test]
async fn other_types_that_begin_alike_are_not_grpc() {
    let bench = Bench::new().await;
    for content_type in ["application/grpcx", "application/json", "application/grp"] {
        let answer = call(&bench.api(), "/", "rubbish", content_type).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{content_type}");
        assert_eq!(outcome(&answer), ("", ""));
    }
}
