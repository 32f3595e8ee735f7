//! What clients find the way by.

use axum::body::Body;
use http::{HeaderValue, Response, header::WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tower_authlete::{Rejection, Renderer};

/// Where the metadata of the resource `/mcp` is (RFC 9728 §3.1).
pub const RESOURCE_PATH: &str = "/.well-known/oauth-protected-resource/mcp";

/// Where the metadata of the authorization server is (RFC 8414 §3).
pub const SERVER_PATH: &str = "/.well-known/oauth-authorization-server";

/// The metadata of the protected resource (RFC 9728).
#[must_use]
pub fn resource(url: &str) -> Value {
    json!({
        "resource": format!("{url}/mcp"),
        "authorization_servers": [url],
        "scopes_supported": ["notes.read", "notes.write"],
        "bearer_methods_supported": ["header"],
    })
}

/// Writes refusals whose challenge tells where that is (RFC 9728 §5.1).
#[must_use]
pub fn challenges(url: &str) -> impl Renderer<Body> + use<> {
    let parameter = format!("resource_metadata=\"{url}{RESOURCE_PATH}\"");
    move |_: &Rejection, mut head: Response<()>| {
        if let Some(challenge) = head.headers_mut().get_mut(WWW_AUTHENTICATE) {
            let before = challenge.to_str().unwrap_or("Bearer");
            let comma = if before.contains(' ') { "," } else { "" };
            let with = HeaderValue::try_from(format!("{before}{comma} {parameter}"));
            *challenge = with.unwrap_or_else(|_| challenge.clone());
        }
        head.map(|()| Body::empty())
    }
}

/// The metadata of the authorization server (RFC 8414).
#[must_use]
pub fn server(url: &str) -> Value {
    json!({
        "issuer": url,
        "token_endpoint": format!("{url}/token"),
        // Nothing is there: tokens are for clients themselves. But rmcp wants to read it.
        "authorization_endpoint": format!("{url}/authorize"),
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": ["notes.read", "notes.write"],
    })
}
