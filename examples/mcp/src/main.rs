//! An MCP server (rmcp, streamable HTTP) whose access tokens are checked by Authlete, and a client
//! that finds its way to it.
//!
//! ```sh
//! cargo run -p mcp-example
//! ```
//!
//! It runs on an emulator of its own, and prints what happens to the client:
//!
//! 1. It has no token and is refused. The challenge tells where the metadata of the resource are
//!    (RFC 9728), they tell where the authorization server is, and its metadata (RFC 8414) tell where
//!    tokens are issued: at this crate's `TokenEndpoint`.
//! 2. It gets a token for itself (client credentials), for this resource and one scope.
//! 3. It calls a tool. Another one takes a further scope, and is refused.
//! 4. It gets a token with that scope as well, and calls it.
//!
//! `cargo run -p mcp-example -- --serve` stays, and prints lines for curl. `PORT` is where it listens
//! then (default 3000; 0 picks a port).

use std::{env, error::Error};

use mcp_example::{
    client::{self, Credentials},
    metadata, server,
};
use tokio::net::TcpListener;
use tower_authlete::emulator::Emulator;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let stay = env::args().any(|arg| arg == "--serve");
    let port = if stay { env::var("PORT").unwrap_or_else(|_| "3000".into()) } else { "0".into() };
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let emulator = Emulator::start().await;
    let app = server::app(&url, emulator.authlete())?;
    let client = Credentials {
        client_id: emulator.client_id().to_string(),
        client_secret: emulator.client_secret().into(),
    };
    if stay {
        print_lines(&url, &client);
        axum::serve(listener, app).await?;
        return Ok(());
    }
    tokio::spawn(async { axum::serve(listener, app).await });
    println!("{}", client::run(&format!("{url}/mcp"), &client).await?);
    Ok(())
}

fn print_lines(url: &str, client: &Credentials) {
    let Credentials { client_id, client_secret } = client;
    println!("listening on {url}/mcp. Paste:\n\nCLIENT={client_id}:{client_secret}");
    let read = r#"sed 's/.*"access_token":"\([^"]*\)".*/\1/'"#;
    println!(
        "READER=$(curl -s {url}/token -u $CLIENT -d grant_type=client_credentials -d scope=notes.read \
         -d resource={url}/mcp | {read})\n"
    );
    for (outcome, path) in [
        ("401: no token", "/mcp -X POST"),
        ("200: where the authorization server is", "/.well-known/oauth-protected-resource/mcp"),
        ("200: where tokens are issued", metadata::SERVER_PATH),
    ] {
        println!("# {outcome}\ncurl -i {url}{path}\n");
    }
    for (outcome, params) in [
        ("200: no notes", r#"{"name":"list_notes"}"#),
        (
            "200 with an error of JSON-RPC: the token has not the scope notes.write",
            r#"{"name":"add_note","arguments":{"text":"buy milk"}}"#,
        ),
    ] {
        println!(
            "# {outcome}\ncurl -i {url}/mcp -H \"Authorization: Bearer $READER\" \
             -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
             -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{params}}}'\n"
        );
    }
}
