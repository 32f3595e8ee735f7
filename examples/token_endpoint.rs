//! A token endpoint and a revocation endpoint in front of Authlete, beside an API that knows at once
//! what they issue and end.
//!
//! ```sh
//! cargo run --example token_endpoint --features emulator
//! ```
//!
//! `PORT` is where it listens (default 3000; 0 picks a port).

use std::{env, error::Error, sync::Arc};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_authlete::{
    AuthLayer, ProblemDetails, TokenInfo,
    api::{TokenAction, TokenFailReason, TokenResponse},
    emulator::{Api, Emulator},
    endpoint::{Decision, RevocationEndpoint, TokenEndpoint},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::var("PORT").unwrap_or_else(|_| "3000".into()).parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let emulator = Arc::new(Emulator::start().await);
    print_lines(&url, &emulator).await;

    let authlete = emulator.authlete();
    let auth = AuthLayer::builder(authlete.clone()).renderer(ProblemDetails).build()?;
    let token = TokenEndpoint::builder(authlete.clone(), &auth.handle()).decide(decide).build()?;
    let revoke = RevocationEndpoint::new(authlete, &auth.handle());
    let app = Router::new()
        .route("/hello", get(hello))
        .layer(auth)
        .route_service("/token", token)
        .route_service("/revoke", revoke)
        .route("/introspections", get(async move || introspections(&emulator)));
    axum::serve(listener, app).await?;
    Ok(())
}

/// Decides about what Authlete does not decide about.
async fn decide(request: TokenResponse) -> Decision {
    let subject = match request.action {
        TokenAction::TokenExchange => request.subject_token_info.and_then(|token| token.subject),
        // A real server would look at the password.
        TokenAction::Password => request.username,
        _ => None,
    };
    match subject {
        Some(subject) => Decision::issue(subject),
        None => Decision::refuse(TokenFailReason::Unknown),
    }
}

async fn hello(token: TokenInfo) -> String {
    format!("hello {}\n", token.subject().unwrap_or("service"))
}

fn introspections(emulator: &Emulator) -> String {
    format!("{}\n", emulator.calls(Api::Introspection))
}

async fn print_lines(url: &str, emulator: &Emulator) {
    let pair = emulator.token().subject("alice").scopes(["read"]).issue_with_refresh().await;
    println!("listening on {url}. Paste:\n");
    println!("CLIENT={}:{}", emulator.client_id(), emulator.client_secret());
    println!("REFRESH={}\n", pair.refresh_token);
    let token = format!("curl -i {url}/token -u $CLIENT");
    println!("# 200: client credentials\n{token} -d grant_type=client_credentials -d scope=read\n");
    println!(
        "# 200: a new pair of tokens\n{token} -d grant_type=refresh_token -d refresh_token=$REFRESH\n"
    );
    println!(
        "# 400: the refresh token is used up\n{token} -d grant_type=refresh_token -d refresh_token=$REFRESH\n"
    );
    println!(
        "# 400: a parameter that is repeated\n{token} -d grant_type=client_credentials -d scope=read -d scope=\n"
    );
    let access = emulator.token().subject("alice").issue().await;
    println!("ACCESS={access}\n");
    println!(
        "# 200: token exchange\n{token} -d grant_type=urn:ietf:params:oauth:grant-type:token-exchange \
         -d subject_token=$ACCESS -d subject_token_type=urn:ietf:params:oauth:token-type:access_token\n"
    );
    let read = r#"sed 's/.*"access_token":"\([^"]*\)".*/\1/'"#;
    println!(
        "NEW=$(curl -s {url}/token -u $CLIENT -d grant_type=password -d username=bob -d password=x | {read})\n"
    );
    println!(
        "# 200: its first use asks nobody\ncurl -i {url}/hello -H \"Authorization: Bearer $NEW\"\n"
    );
    println!("# 200: and so this is 0\ncurl -i {url}/introspections\n");
    println!("# 200: it is revoked\ncurl -i {url}/revoke -u $CLIENT -d token=$NEW\n");
    println!("# 401: and dies at once\ncurl -i {url}/hello -H \"Authorization: Bearer $NEW\"");
}
