//! The layer around a hand-written hyper service: no axum, and any body.
//!
//! ```sh
//! cargo run --example hyper_service --features emulator
//! ```
//!
//! `PORT` is where it listens (default 3000; 0 picks a port).

use std::{convert::Infallible, env, error::Error};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_authlete::{AuthLayer, ProblemDetails, Require, TokenInfo, emulator::Emulator};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::var("PORT").unwrap_or_else(|_| "3000".into()).parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);

    let emulator = Emulator::start().await;
    let token = emulator.token().subject("alice").scopes(["read"]).issue().await;
    println!("listening on {url}. Paste:\n");
    println!("# 200\ncurl -i {url} -H \"Authorization: Bearer {token}\"\n");
    println!("# 401\ncurl -i {url}");

    let auth = AuthLayer::builder(emulator.authlete())
        .require(Require::scopes(["read"]))
        .renderer(ProblemDetails)
        .build()?;
    let service = ServiceBuilder::new().layer(auth).service(service_fn(hello));

    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("a connection broke: {error}");
            }
        });
    }
}

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let token = request.extensions().get::<TokenInfo>();
    let subject = token.and_then(TokenInfo::subject).unwrap_or("nobody");
    Ok(Response::new(format!("hello {subject}\n").into()))
}
