//! A notes API: nested routers, a route for everybody, requirements by method, typed properties, refusals of
//! its own, public routes, CORS and tracing.
//!
//! ```sh
//! cargo run --example notes_api --features emulator
//! ```
//!
//! It runs on an emulator of its own. `PORT` is where it listens (default 3000; 0 picks a port).

mod app;

use std::{env, error::Error, io::stderr, time::SystemTime};

use tokio::net::TcpListener;
use tower_authlete::{AuthLayer, ProblemDetails, emulator::Emulator};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(stderr).with_max_level(tracing::Level::INFO).init();
    let port = env::var("PORT").unwrap_or_else(|_| "3000".into()).parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let emulator = Emulator::start().await;
    print_lines(&format!("http://{}", listener.local_addr()?), &emulator).await;

    let auth = AuthLayer::builder(emulator.authlete()).renderer(ProblemDetails).build()?;
    let app = app::app(auth, app::Notes::default());
    app::serve(listener, app, stopped()).await?;
    Ok(())
}

async fn print_lines(url: &str, emulator: &Emulator) {
    let alice = emulator.token().subject("alice").scopes(["notes.read", "notes.write"]);
    let alice = alice.property("plan", "free").property("max_notes", "1").issue().await;
    let bob = emulator.token().subject("bob").scopes(["notes.read"]).issue().await;
    let admin =
        emulator.token().subject("carol").scopes(["admin"]).auth_time(SystemTime::UNIX_EPOCH);
    let admin = admin.issue().await;
    println!("listening on {url}; tokens are checked by an emulator of Authlete. Paste:\n");
    println!("ALICE={alice}\nBOB={bob}\nADMIN={admin}\n");
    let post = "-d milk";
    let preflight =
        "-X OPTIONS -H Origin:https://notes.example.com -H Access-Control-Request-Method:POST";
    for (outcome, path, token, rest) in [
        ("200: public", "/docs", "", ""),
        ("204: Authlete can be asked", "/health", "", ""),
        ("200: hello stranger", "/", "", ""),
        ("200: hello alice", "/", "$ALICE", ""),
        ("401: even there, a token has to be good", "/", "rubbish", ""),
        ("401: no token", "/notes", "", ""),
        ("200: a preflight request needs none", "/notes", "", preflight),
        ("201: alice writes note 0", "/notes", "$ALICE", post),
        ("403: her plan has room for no other", "/notes", "$ALICE", post),
        ("403: bob may not write", "/notes", "$BOB", post),
        ("403: nor read what others wrote", "/notes/0", "$BOB", ""),
        ("200: alice may", "/notes/0", "$ALICE", ""),
        ("404: there is no note 1", "/notes/1", "$ALICE", ""),
        ("403: alice is no admin", "/admin/notes", "$ALICE", ""),
        ("200: carol is", "/admin/notes", "$ADMIN", ""),
        ("401: but has to log in again to delete all", "/admin/notes", "$ADMIN", "-X DELETE"),
        ("204: alice deletes hers", "/notes/0", "$ALICE", "-X DELETE"),
    ] {
        let token = match token {
            "" => String::new(),
            token => format!(r#" -H "Authorization: Bearer {token}""#),
        };
        println!("# {outcome}\ncurl -i {url}{path}{token} {rest}\n");
    }
}

async fn stopped() {
    // Without a signal handler, there is no signal to wait for.
    let _ = tokio::signal::ctrl_c().await;
}
