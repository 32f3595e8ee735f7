//! An axum API whose access tokens are checked by Authlete.
//!
//! ```sh
//! cargo run --example protected_api --features emulator
//! ```
//!
//! It runs on an emulator of its own, unless `AUTHLETE_BASE_URL` is set: then it runs on that service
//! (see `Authlete::from_env` for the other variables). `PORT` is where it listens (default 3000; 0
//! picks a port). `MODE=bare` serves the same routes without the layer, for comparison.

use std::{collections::BTreeMap, env, error::Error, time::UNIX_EPOCH};

use axum::{Json, Router, routing::get};
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_authlete::{AuthLayer, Authlete, ProblemDetails, Require, TokenInfo, emulator::Emulator};
use tower_http::cors::{Any, CorsLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let port = env::var("PORT").unwrap_or_else(|_| "3000".into()).parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);

    if env::var("MODE").is_ok_and(|mode| mode == "bare") {
        println!("listening on {url}, without any protection\n\ncurl -i {url}/hello");
        axum::serve(listener, bare()).with_graceful_shutdown(stopped()).await?;
        return Ok(());
    }

    // The emulator lives for as long as `main` does.
    let (authlete, _emulator) = if env::var_os("AUTHLETE_BASE_URL").is_some() {
        println!("listening on {url}; tokens are checked by your Authlete service\n");
        println!("curl -i {url}/hello -H \"Authorization: Bearer $TOKEN\"");
        (Authlete::from_env()?, None)
    } else {
        let emulator = Emulator::start().await;
        print_lines(&url, &emulator).await;
        (emulator.authlete(), Some(emulator))
    };

    let auth = AuthLayer::builder(authlete).realm("example").renderer(ProblemDetails).build()?;
    axum::serve(listener, protected(auth)).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

fn protected(auth: AuthLayer<ProblemDetails>) -> Router {
    let reports = get(reports)
        .route_layer(Require::scopes(["reports.read"]))
        .merge(axum::routing::post(file_report).route_layer(Require::scopes(["reports.write"])));
    Router::new()
        .route("/hello", get(hello))
        .route("/whoami", get(whoami))
        .route("/reports", reports)
        .layer(auth)
        // What is added after the layer is outside of it.
        .route("/public", get(public))
        // A browser's preflight request has no token: CORS goes around all.
        .layer(
            CorsLayer::new()
                .allow_origin(Any)
                .allow_methods(Any)
                // A wildcard does not cover `Authorization`.
                .allow_headers([AUTHORIZATION, CONTENT_TYPE])
                .expose_headers([WWW_AUTHENTICATE]),
        )
}

/// The same routes for everybody.
fn bare() -> Router {
    Router::new()
        .route("/hello", get(|| async { "hello\n" }))
        .route("/whoami", get(|| async { Json(json!({})) }))
        .route("/reports", get(reports).post(file_report))
        .route("/public", get(public))
}

async fn hello(token: TokenInfo) -> String {
    format!("hello {}\n", token.subject().unwrap_or("service"))
}

async fn whoami(token: TokenInfo) -> Json<Value> {
    let expires_at = token.expires_at().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Json(json!({
        "subject": token.subject(),
        "clientId": token.client_id(),
        "scopes": token.scopes().iter().collect::<Vec<_>>(),
        "properties": token.properties().visible().collect::<BTreeMap<_, _>>(),
        // Seconds since the epoch.
        "expiresAt": expires_at.map(|since| since.as_secs()),
    }))
}

async fn reports() -> Json<Value> {
    Json(json!(["weekly", "monthly"]))
}

async fn file_report() -> &'static str {
    "filed\n"
}

async fn public() -> &'static str {
    "hello world\n"
}

async fn print_lines(url: &str, emulator: &Emulator) {
    let alice = emulator
        .token()
        .subject("alice")
        .scopes(["reports.read"])
        .property("plan", "gold")
        .hidden_property("risk", "low")
        .issue()
        .await;
    let bob = emulator.token().subject("bob").scopes(["profile"]).issue().await;
    println!("listening on {url}; tokens are checked by an emulator of Authlete. Paste:\n");
    println!("ALICE={alice}\nBOB={bob}\n");
    for (outcome, rest) in [
        ("200: hello alice", r#"/hello -H "Authorization: Bearer $ALICE""#),
        ("200: what is known of the token", r#"/whoami -H "Authorization: Bearer $ALICE""#),
        ("200: she has the scope reports.read", r#"/reports -H "Authorization: Bearer $ALICE""#),
        ("200: no token needed", "/public"),
        ("401: no token", "/hello"),
        ("401: not a token of ours", r#"/hello -H "Authorization: Bearer rubbish""#),
        ("400: not a token at all", r#"/hello -H "Authorization: Bearer not a token""#),
        ("403: he has not the scope reports.read", r#"/reports -H "Authorization: Bearer $BOB""#),
        ("403: she may not file reports", r#"/reports -X POST -H "Authorization: Bearer $ALICE""#),
    ] {
        println!("# {outcome}\ncurl -i {url}{rest}\n");
    }
}

async fn stopped() {
    // Without a signal handler, there is no signal to wait for.
    let _ = tokio::signal::ctrl_c().await;
}
