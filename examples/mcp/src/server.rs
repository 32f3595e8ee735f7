//! The server: an MCP endpoint behind the layer, and an authorization server beside it.

use std::sync::Arc;

use axum::{Json, Router, routing::get};
use rmcp::transport::{
    StreamableHttpServerConfig, StreamableHttpService,
    streamable_http_server::session::never::NeverSessionManager,
};
use tower_authlete::{
    AuthLayer, Authlete, ConfigError, Require, endpoint::TokenEndpoint, metadata::ProtectedResource,
};

use crate::{metadata, tools::Notes};

/// All that is served at `url`.
///
/// # Errors
/// If `url` cannot stand in a header.
pub fn app(url: &str, authlete: Authlete) -> Result<Router, ConfigError> {
    let resource = ProtectedResource::builder(format!("{url}/mcp"))
        .authorization_server(url)
        .scopes(["notes.read", "notes.write"])
        .build()?;
    let auth = AuthLayer::builder(authlete.clone())
        // Challenges tell where the metadata of the resource are (RFC 9728).
        .protected_resource(&resource)
        // A token that was issued for another server is no good here.
        .require(resource.audience())
        .require(Require::scopes(["notes.read"]))
        .build()?;
    let token = TokenEndpoint::new(authlete, &auth.handle());
    let server = metadata::server(url);
    let app = Router::new()
        .route_service("/mcp", mcp())
        .layer(auth)
        // What is added after the layer is outside of it.
        .route_service(resource.path(), resource.service())
        .route(metadata::SERVER_PATH, get(async move || Json(server)))
        .route_service("/token", token);
    Ok(app)
}

/// The MCP endpoint. It keeps no sessions, so that nobody can go on with somebody else's.
fn mcp() -> StreamableHttpService<Notes, NeverSessionManager> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true);
    let notes = Notes::default();
    StreamableHttpService::new(
        move || Ok(notes.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    )
}
