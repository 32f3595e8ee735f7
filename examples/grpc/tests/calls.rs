//! What a gRPC client is told, over a real socket.

use grpc_example::{client, server};
use tokio::net::TcpListener;
use tonic::Code;
use tower_authlete::{AuthLayer, emulator::Emulator};

#[tokio::test]
async fn refusals_are_grpc_statuses() {
    let emulator = Emulator::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, AuthLayer::new(emulator.authlete())));

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
