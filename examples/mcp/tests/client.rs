//! What happens to an MCP client, over a real socket.

use mcp_example::{
    client::{self, Credentials},
    server,
    tools::INSUFFICIENT_SCOPE,
};
use serde_json::json;
use tokio::net::TcpListener;
use tower_authlete::emulator::Emulator;

async fn serve(emulator: &Emulator) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = server::app(&url, emulator.authlete()).unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    url
}

fn credentials(emulator: &Emulator) -> Credentials {
    Credentials {
        client_id: emulator.client_id().to_string(),
        client_secret: emulator.client_secret().into(),
    }
}

#[tokio::test]
async fn a_client_finds_its_way_from_a_refusal_to_a_tool() {
    let emulator = Emulator::start().await;
    let url = serve(&emulator).await;
    let story = client::run(&format!("{url}/mcp"), &credentials(&emulator)).await.unwrap();

    let metadata = format!("{url}/.well-known/oauth-protected-resource/mcp");
    let parameter = format!("resource_metadata=\"{metadata}\"");
    assert!(story.challenge.contains(&parameter), "{}", story.challenge);
    assert_eq!(story.found, "ProtectedResourceMetadata");
    assert_eq!(story.token_endpoint, format!("{url}/token"));
    assert_eq!(story.tools, ["add_note", "list_notes"]);
    assert_eq!(story.listed, "no notes");
    assert_eq!(story.refused.code, INSUFFICIENT_SCOPE);
    let data = json!({ "error": "insufficient_scope", "scope": "notes.write" });
    assert_eq!(story.refused.data, Some(data));
    assert_eq!(story.added, "buy milk (my-client)");
}

#[tokio::test]
async fn a_token_for_another_server_is_no_good() {
    let emulator = Emulator::start().await;
    let mcp = format!("{}/mcp", serve(&emulator).await);
    for (resource, status) in [("https://other.example.com/mcp", 401), (mcp.as_str(), 200)] {
        let token = emulator.token().scopes(["notes.read"]).resources([resource]).issue().await;
        let request = reqwest::Client::new()
            .post(&mcp)
            .bearer_auth(token)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        assert_eq!(request.send().await.unwrap().status(), status, "{resource}");
    }
}
