//! Service A calls service B on behalf of its user, with a token that can do less than the user's.
//!
//! ```sh
//! cargo run --example delegation --features emulator
//! ```

use std::error::Error;

use axum::{Router, body::Body, extract::State, routing::get};
use http::{Request, Uri};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_authlete::{
    AuthLayer, Require, TokenInfo,
    delegate::{DelegateLayer, DelegateService},
    emulator::{Api, Emulator},
};

type Outbound = DelegateService<Client<HttpConnector, Body>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let authlete = Emulator::start().await;

    // B: tells what the token that it is called with can do.
    let b = get(|token: TokenInfo| async move {
        format!("{} with scopes {:?}", token.subject().unwrap_or("nobody"), token.scopes())
    });
    let b = Router::new()
        .route("/stock", b.route_layer(Require::scopes(["stock.read"])))
        .layer(AuthLayer::new(authlete.authlete()));
    let b = serve(b).await?;

    // A: calls B for its user.
    let outbound = DelegateLayer::new(authlete.authlete())
        .client_id(authlete.client_id())
        .scopes(["stock.read"])
        .layer(Client::builder(TokioExecutor::new()).build_http());
    let a = Router::new()
        .route("/order", get(order))
        .layer(AuthLayer::new(authlete.authlete()))
        .with_state((outbound, format!("{b}/stock").parse()?));
    let a = serve(a).await?;

    // A client of A's.
    let token = authlete.token().subject("alice").scopes(["order", "stock.read", "profile"]);
    let token = token.issue().await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    for _ in 0..2 {
        let request = Request::get(format!("{a}/order"));
        let request = request.header("authorization", format!("Bearer {token}"));
        let response = client.request(request.body(Body::empty())?).await?;
        let status = response.status();
        let body = axum::body::to_bytes(Body::new(response.into_body()), 1024).await?;
        println!("A: {status}, {}", String::from_utf8_lossy(&body));
        println!("tokens made: {}", authlete.calls(Api::TokenCreate));
    }
    if authlete.calls(Api::TokenCreate) != 1 {
        return Err("the second call made a token".into());
    }
    Ok(())
}

async fn order(token: TokenInfo, State((outbound, b)): State<(Outbound, Uri)>) -> String {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = b;
    // On whose behalf the call is made.
    request.extensions_mut().insert(token);
    match outbound.oneshot(request).await {
        Ok(response) => {
            let body = axum::body::to_bytes(Body::new(response.into_body()), 1024).await;
            format!("B was called for {}", String::from_utf8_lossy(&body.unwrap_or_default()))
        }
        Err(error) => format!("B could not be called: {error}"),
    }
}

async fn serve(router: Router) -> Result<String, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}
