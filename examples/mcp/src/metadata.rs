//! What clients find the way by, beside the metadata of the resource: those of the authorization
//! server.

use serde_json::{Value, json};

/// Where the metadata of the authorization server is (RFC 8414 §3).
pub const SERVER_PATH: &str = "/.well-known/oauth-authorization-server";

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
