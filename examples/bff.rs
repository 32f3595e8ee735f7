//! A backend for a frontend: the browser has a cookie, the tokens are here.
//!
//! ```sh
//! cargo run --example bff --features emulator,session
//! ```
//!
//! A browser's access token expires under it while ten of its requests are under way. They cause one
//! renewal, and nobody is logged out.

use std::{error::Error, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::SET_COOKIE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_authlete::{
    AuthLayer, TokenInfo,
    emulator::{Api, Emulator},
    session::{MemoryStore, SessionLayer, SessionTokens, Sessions},
};

type Browser = Client<HttpConnector, Empty<bytes::Bytes>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let authlete = Emulator::start().await;
    let sessions = SessionLayer::builder(authlete.authlete(), MemoryStore::default())
        .client(authlete.client_id().to_string(), authlete.client_secret())
        // Applications on one host need different names.
        .cookie("__Host-bff")
        .clock(authlete.clock().clone())
        .build()?;
    let auth = AuthLayer::builder(authlete.authlete()).clock(authlete.clock().clone()).build()?;
    let handle = sessions.sessions();

    // What a log-in with Authlete leaves the server with: a pair of tokens.
    let life = Duration::from_secs(60);
    let pair = authlete.token().subject("alice").expires_in(life).issue_with_refresh().await;
    let expires_at = authlete.clock().now() + life;
    let refresh_token = Some(pair.refresh_token.as_str().into());
    let cookie = handle
        .begin(SessionTokens::new(pair.access_token, Some(expires_at), refresh_token))
        .await
        .map_err(|error| error.to_string())?;
    println!("Set-Cookie: {}", cookie.to_str()?);
    let cookie = cookie.to_str()?.split(';').next().unwrap_or_default().to_owned();

    let app = Router::new()
        .route("/me", get(me))
        .layer(ServiceBuilder::new().layer(sessions).layer(auth))
        .route("/logout", post(logout))
        .with_state(handle);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/me", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });

    let browser = Client::builder(TokioExecutor::new()).build_http();
    println!("first request: {}", ask(&browser, &url, &cookie).await?);
    authlete.clock().advance(life);
    println!("the access token has expired");
    let answers = join_all((0..10).map(|_| ask(&browser, &url, &cookie))).await;
    for answer in answers {
        let answer = answer?;
        println!("{answer}");
        if answer != "200 OK: alice" {
            return Err("somebody was logged out".into());
        }
    }
    println!("renewals: {}", authlete.calls(Api::Token));
    if authlete.calls(Api::Token) != 1 {
        return Err("there was not one renewal".into());
    }
    Ok(())
}

async fn me(token: TokenInfo) -> String {
    token.subject().unwrap_or("nobody").to_owned()
}

async fn logout(State(sessions): State<Sessions<MemoryStore>>, headers: HeaderMap) -> Response {
    match sessions.end(&headers).await {
        Ok(removal) => ([(SET_COOKIE, removal)], "bye\n").into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn ask(browser: &Browser, url: &str, cookie: &str) -> Result<String, Box<dyn Error>> {
    let request = Request::get(url).header("cookie", cookie).body(Empty::new())?;
    let response = browser.request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(format!("{status}: {}", String::from_utf8_lossy(&body)))
}
