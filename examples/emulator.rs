//! Authlete's token APIs on this machine, to develop against.
//!
//! ```sh
//! cargo run --example emulator --features emulator -- --port 4000 \
//!     --token 'subject=alice,scopes=read write,plan=gold'
//! ```
//!
//! It prints what to set in the environment of a client, and the tokens that it was told to issue.

use std::{error::Error, time::Duration};

use clap::Parser;
use tower_authlete::{api::ApiVersion, emulator::Emulator};

/// An in-memory Authlete: its token APIs, for development.
#[derive(Parser)]
struct Options {
    /// The port of 127.0.0.1 to listen on; 0 picks one.
    #[arg(long, default_value_t = 4000)]
    port: u16,
    /// The API's generation: V3 or V2.
    #[arg(long, default_value_t)]
    api_version: ApiVersion,
    /// The service ID (V3) or service API key (V2).
    #[arg(long)]
    service_id: Option<String>,
    /// The service access token (V3) or service API secret (V2); random if it is not given.
    #[arg(long)]
    access_token: Option<String>,
    /// How much longer each answer takes, such as 20ms.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// A scope that the service supports; can be given again. Without it, every scope is supported.
    #[arg(long)]
    scope: Vec<String>,
    /// A token to issue at the start: `subject=alice,scopes=read write,expires_in=60s,plan=gold`.
    /// Other names than these are properties. Can be given again.
    #[arg(long, value_name = "FACTS")]
    token: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let mut builder = Emulator::builder()
        .port(options.port)
        .api_version(options.api_version)
        .latency(options.latency);
    if let Some(id) = options.service_id {
        builder = builder.service_id(id);
    }
    if let Some(token) = options.access_token {
        builder = builder.access_token(token);
    }
    if !options.scope.is_empty() {
        builder = builder.scopes(options.scope);
    }
    let emulator = builder.start().await?;
    for (name, value) in [
        ("AUTHLETE_BASE_URL", emulator.base_url()),
        ("AUTHLETE_API_VERSION", emulator.api_version().to_string()),
        ("AUTHLETE_SERVICE_APIKEY", emulator.service_id().into()),
        ("AUTHLETE_SERVICE_ACCESSTOKEN", emulator.service_access_token().into()),
        ("AUTHLETE_SERVICE_APISECRET", emulator.service_api_secret().into()),
        ("AUTHLETE_CLIENT_ID", emulator.client_id().to_string()),
        ("AUTHLETE_CLIENT_SECRET", emulator.client_secret().into()),
    ] {
        println!("export {name}={value}");
    }
    for facts in &options.token {
        println!("# {facts}\nTOKEN={}", issue(&emulator, facts).await?);
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}

async fn issue(emulator: &Emulator, facts: &str) -> Result<String, Box<dyn Error>> {
    let mut token = emulator.token();
    for fact in facts.split(',') {
        let (name, value) = fact.split_once('=').ok_or_else(|| {
            format!("--token takes name=value pairs separated by commas; `{fact}` is none")
        })?;
        token = match name.trim() {
            "subject" => token.subject(value),
            "scopes" => token.scopes(value.split_whitespace()),
            "expires_in" => token.expires_in(humantime::parse_duration(value)?),
            name => token.property(name, value),
        };
    }
    Ok(token.issue().await)
}
