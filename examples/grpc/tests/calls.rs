//! What a gRPC client is told, over a real socket.

use grpc_example::{client, server};
use tokio::net::TcpListener;
use tonic::{
    Code,
    body::Body,
    client::GrpcService,
    codegen::http::{Request, Response},
    transport::Channel,
};
use tower_authlete::{AuthLayer, emulator::Emulator};

async fn serve(emulator: &Emulator) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, AuthLayer::new(emulator.authlete())));
    url
}

#[tokio::test]
async fn refusals_are_grpc_statuses() {
    let emulator = Emulator::start().await;
    let url = serve(&emulator).await;
    let outcomes = client::calls(url, &emulator).await.unwrap();
    let codes: Vec<_> = outcomes.iter().map(|outcome| (outcome.call, outcome.code)).collect();
    let expected = [
        ("alice reads", Code::Ok),
        ("nobody reads", Code::Unauthenticated),
        ("rubbish reads", Code::Unauthenticated),
        ("bob reads", Code::PermissionDenied),
        ("a machine reads", Code::PermissionDenied),
        ("alice files", Code::PermissionDenied),
        ("carol files", Code::Ok),
        ("dave reads while Authlete is down", Code::Unavailable),
        ("alice reads while Authlete is down", Code::Ok),
    ];
    assert_eq!(codes, expected);

    assert_eq!(outcomes[0].message, "weekly for alice, on plan gold");
    let challenge = |i: usize| outcomes[i].challenge.as_deref().unwrap_or_default();
    assert_eq!(challenge(1), "Bearer");
    assert!(challenge(2).contains(r#"error="invalid_token""#), "{}", challenge(2));
    assert!(challenge(3).contains(r#"scope="reports.read""#), "{}", challenge(3));
    assert_eq!(outcomes[7].challenge, None);
}

#[tokio::test]
async fn refusals_are_trailers_only() {
    let emulator = Emulator::start().await;
    let response = raw(serve(&emulator).await).await;
    let header = |name| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!(response.status(), 200);
    assert_eq!(header("content-type"), "application/grpc");
    assert_eq!(header("grpc-status"), "16");
    assert_eq!(header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn refusals_say_why() {
    let emulator = Emulator::start().await;
    let url = serve(&emulator).await;
    for outcome in client::calls(url, &emulator).await.unwrap() {
        assert!(!outcome.message.contains("HTTP status"), "{outcome}");
    }
}

/// A call without a token, as it goes over the wire.
async fn raw(url: String) -> Response<Body> {
    let mut channel = Channel::from_shared(url.clone()).unwrap().connect().await.unwrap();
    std::future::poll_fn(|context| GrpcService::<Body>::poll_ready(&mut channel, context))
        .await
        .unwrap();
    let request = Request::post(format!("{url}/reports.Reports/Read"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    GrpcService::call(&mut channel, request.body(Body::empty()).unwrap()).await.unwrap()
}
