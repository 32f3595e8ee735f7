//! A gRPC server (tonic) whose access tokens are checked by Authlete, and a client of it.
//!
//! ```sh
//! cargo run -p grpc-example
//! ```
//!
//! It runs on an emulator of its own. The client calls with good and bad tokens and prints what it is
//! told: refusals are gRPC statuses (`UNAUTHENTICATED`, `PERMISSION_DENIED`, `UNAVAILABLE`), and the
//! challenge of HTTP is in their metadata. The server reads `TokenInfo` in an interceptor and in its
//! methods.
//!
//! `cargo run -p grpc-example -- --serve` stays, and prints lines for grpcurl. `PORT` is where it
//! listens then (default 3000; 0 picks a port).

use std::{env, error::Error};

use grpc_example::{
    client::{self, Tokens},
    server,
};
use tokio::net::TcpListener;
use tower_authlete::{AuthLayer, emulator::Emulator};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let emulator = Emulator::start().await;
    let auth = AuthLayer::new(emulator.authlete());
    if env::args().any(|arg| arg == "--serve") {
        return stay(auth, &emulator).await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(server::serve(listener, auth));
    for outcome in client::calls(url, &emulator).await? {
        println!("{outcome}");
    }
    Ok(())
}

async fn stay(auth: AuthLayer, emulator: &Emulator) -> Result<(), Box<dyn Error>> {
    let port = env::var("PORT").unwrap_or_else(|_| "3000".into()).parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let Tokens { alice, bob, .. } = Tokens::issue(emulator).await;
    println!("listening on {address}. Paste:\n\nALICE={alice}\nBOB={bob}\n");
    let call = "grpcurl -plaintext -import-path examples/grpc/proto -proto reports.proto -v";
    let read = format!(r#"-d '{{"name":"weekly"}}' {address} reports.Reports/Read"#);
    println!("# OK\n{call} -H \"authorization: Bearer $ALICE\" {read}\n");
    println!("# Unauthenticated\n{call} {read}\n");
    println!("# PermissionDenied\n{call} -H \"authorization: Bearer $BOB\" {read}");
    server::serve(listener, auth).await?;
    Ok(())
}
