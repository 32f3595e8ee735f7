//! A backend for a frontend (BFF): a server with a page. The browser has a cookie, the tokens are here.
//!
//! ```sh
//! cargo run --example bff --features axum,emulator,session
//! ```
//!
//! Open the address that it prints, and log in, call the API, watch the renewal, log out. It runs on an
//! emulator of its own. `PORT` is where it listens (default 3000; 0 picks a port).
//!
//! The cookie's name begins with `__Host-`, so browsers accept it over HTTPS only. Chromium makes an exception
//! for `localhost`. In a browser that makes none the page says so: put a proxy that terminates TLS in front,
//! and let it pass on `Host` and `Origin` unchanged.

mod app;

use std::{env, error::Error, sync::Arc};

use tokio::net::TcpListener;
use tower_authlete::session::MemoryStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let port = env::var("PORT").unwrap_or_else(|_| "3000".into()).parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    print_lines(&format!("http://localhost:{}", listener.local_addr()?.port()));

    let authlete = Arc::new(app::authlete().start().await?);
    // Processes that share their sessions need another store: see `SessionStore`.
    let app = app::router(&authlete, MemoryStore::default())?;
    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
    Ok(())
}

fn print_lines(url: &str) {
    println!("open {url} in a browser, or paste:\n\nJAR=$(mktemp)\n");
    for (outcome, rest) in [
        ("401: nobody has logged in", "/api/hello"),
        ("204: alice logs in", "/login -c $JAR -d user=alice"),
        ("200: hello alice", "/api/hello -b $JAR"),
        (
            "403: a page of another site",
            "/logout -b $JAR -X POST -H 'Origin: https://elsewhere.example'",
        ),
        ("204: she logs out", "/logout -b $JAR -X POST"),
        ("401: the session has ended", "/api/hello -b $JAR"),
    ] {
        println!("# {outcome}\ncurl -i {url}{rest}\n");
    }
}

async fn stopped() {
    // Without a signal handler, there is no signal to wait for.
    let _ = tokio::signal::ctrl_c().await;
}
