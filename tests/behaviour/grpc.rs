//! gRPC requests are refused by a Trailers-Only response.

use axum::{Router, body::Body, routing::any};
use http::{Method, Request, Response, StatusCode, Version, header};
use tower_authlete::{
    AuthLayer, MessageSignatures, ProblemDetails, Refusal, Renderer, RequireScopes, TokenInfo,
    emulator::Fault,
};

use crate::support::{Answer, Bench, NEW, Protected, SECOND, rotation, send};

/// A gRPC request with the headers of its protocol.
async fn call(api: &Protected, path: &str, token: &str, content_type: &str) -> Answer {
    call_as((Method::POST, Version::HTTP_2), api, path, token, content_type).await
}

async fn call_as(
    (method, version): (Method, Version),
    api: &Protected,
    path: &str,
    token: &str,
    content_type: &str,
) -> Answer {
    let request = Request::builder()
        .method(method)
        .version(version)
        .uri(path)
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

/// Routes that take any method.
fn protected<R: Renderer<Body>>(auth: &AuthLayer<R>) -> Protected {
    let router = Router::new()
        .route("/", any(StatusCode::OK))
        .route("/write", any(StatusCode::OK).layer(RequireScopes::all(["write"])))
        .route("/facts", any(|_: TokenInfo| async {}))
        .layer(auth.clone());
    Protected { router, handle: auth.handle() }
}

#[tokio::test]
async fn refusals_of_grpc_tell_status_message_and_challenge() {
    let bench = Bench::new().await;
    refusals(&bench, &protected(&bench.layer().build().unwrap())).await;
    refusals(&bench, &protected(&bench.layer().renderer(ProblemDetails).build().unwrap())).await;
}

#[tokio::test]
async fn other_types_that_begin_alike_are_not_grpc() {
    let bench = Bench::new().await;
    let api = protected(&bench.layer().build().unwrap());
    for content_type in [
        "application/grpcx",
        "application/json",
        "application/grp",
        "application/grpc-",
        "application/grpc-webx",
        "application/grpc-other",
    ] {
        let answer = call(&api, "/", "rubbish", content_type).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{content_type}");
        assert_eq!(outcome(&answer), ("", ""));
    }
}

#[tokio::test]
async fn a_content_type_alone_makes_no_request_one_of_grpc() {
    let bench = Bench::new().await;
    let api = protected(&bench.layer().optional().build().unwrap());
    let token = bench.authlete.token().issue().await;
    let (grpc, web) = ("application/grpc", "application/grpc-web-text; charset=utf-8");
    for (method, version, content_type, is_grpc) in [
        (Method::POST, Version::HTTP_2, grpc, true),
        (Method::POST, Version::HTTP_3, grpc, true),
        (Method::POST, Version::HTTP_11, grpc, false),
        (Method::GET, Version::HTTP_2, grpc, false),
        (Method::PUT, Version::HTTP_2, grpc, false),
        (Method::POST, Version::HTTP_10, web, true),
        (Method::POST, Version::HTTP_11, web, true),
        (Method::POST, Version::HTTP_2, web, true),
        (Method::GET, Version::HTTP_11, web, false),
    ] {
        // By the layer, by a route, and by an extractor.
        for (path, token, status) in [("/", "rubbish", 401), ("/write", &token, 403)] {
            let kind = (method.clone(), version);
            let answer = call_as(kind, &api, path, token, content_type).await;
            let case = format!("{method} {version:?} {content_type} {path}: {answer:?}");
            assert_eq!(answer.status.as_u16(), if is_grpc { 200 } else { status }, "{case}");
            assert_eq!(outcome(&answer).0.is_empty(), !is_grpc, "{case}");
        }
        let request = Request::builder().method(&method).version(version).uri("/facts");
        let request = request.header(header::CONTENT_TYPE, content_type);
        let answer = send(api.router.clone(), request.body(Body::empty()).unwrap()).await;
        assert_eq!(outcome(&answer).0.is_empty(), !is_grpc, "{method} {version:?} {answer:?}");
    }
}

#[tokio::test]
async fn a_refusal_by_trailers_gives_the_token_no_new_value() {
    let bench = Bench::new().await;
    let api = protected(&bench.layer().rotate(rotation()).build().unwrap());
    let token = bench.authlete.token().issue().await;
    call(&api, "/", &token, "application/grpc").await;
    bench.clock.advance(20 * SECOND);
    let refused = call(&api, "/write", &token, "application/grpc").await;
    assert_eq!((outcome(&refused).0, refused.status), ("7", StatusCode::OK));
    assert_eq!(refused.headers.get(NEW), None);
    assert_eq!(bench.updates(), 0);
    assert!(call(&api, "/", &token, "application/grpc").await.headers.contains_key(NEW));
}

#[tokio::test]
async fn a_refusal_that_is_rendered_as_200_gives_the_token_no_new_value() {
    let bench = Bench::new().await;
    let disguised =
        |_: &Refusal<'_>, _: Response<()>| Response::new(Body::from("{\"error\":true}"));
    let layer = bench.layer().rotate(rotation()).renderer(disguised);
    let api = protected(&layer.build().unwrap());
    let token = bench.authlete.token().issue().await;
    api.get(&token).await;
    bench.clock.advance(20 * SECOND);
    let refused = api.get_at("/write", &token).await;
    assert_eq!((refused.status, refused.headers.get(NEW)), (StatusCode::OK, None));
    assert_eq!(bench.updates(), 0);
}

#[tokio::test]
async fn a_response_of_grpc_that_cannot_be_signed_is_a_refusal_of_grpc() {
    let bench = Bench::new().await;
    let failing =
        MessageSignatures::at("https://api.example.com").signer(|_, _, _| Err("no".into()));
    let api = bench.api_with(|layer| layer.message_signatures(failing));
    let token = bench.authlete.token().subject("alice").response_signing_required().issue().await;
    let answer = call(&api, "/", &token, "application/grpc").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!outcome(&answer).0.is_empty(), "{answer:?}");
}
