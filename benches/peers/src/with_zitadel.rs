//! The `zitadel` crate: introspection (RFC 7662) with the cache that it brings, as its documentation
//! has it. It checks no scopes, and tells of a bad token by 403.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{Form, Json, Router, routing::get, routing::post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use zitadel::{
    axum::introspection::{IntrospectedUser, IntrospectionStateBuilder},
    oidc::introspection::cache::in_memory::InMemoryIntrospectionCache,
};

use crate::{
    BoxError,
    contender::{Answer, Contender, PATH, SCOPE},
    with_authlete::MAX_AGE,
};

/// A router whose route has the extractor. The authority runs for as long as this runtime does.
pub(crate) async fn contender<A: Answer>(token: &str) -> Result<Contender, BoxError> {
    let authority = serve(token.into()).await?;
    let state = IntrospectionStateBuilder::new(&authority)
        .with_basic_auth("client", "secret")
        .with_introspection_cache(InMemoryIntrospectionCache::default())
        .build()
        .await?;
    let router =
        Router::new().route(PATH, get(|_: IntrospectedUser| A::answer())).with_state(state);
    Ok(Contender::new("zitadel", router, token).refuses("rubbish", StatusCode::FORBIDDEN))
}

#[derive(Deserialize)]
struct Presented {
    token: String,
}

/// An authority that knows one token, for as long as the program runs.
async fn serve(known: String) -> Result<String, BoxError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let authority = format!("http://{}", listener.local_addr()?);
    let (metadata, keys) = (discovery(&authority), json!({ "keys": [] }));
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(|| async { Json(metadata) }))
        .route("/keys", get(|| async { Json(keys) }))
        .route(
            "/introspect",
            post(async move |Form(Presented { token })| Json(answer(token == known))),
        );
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(authority)
}

fn discovery(authority: &str) -> Value {
    json!({
        "issuer": authority,
        "authorization_endpoint": format!("{authority}/authorize"),
        "introspection_endpoint": format!("{authority}/introspect"),
        "jwks_uri": format!("{authority}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

fn answer(active: bool) -> Value {
    if !active {
        return json!({ "active": false });
    }
    json!({
        "active": true,
        "sub": "alice",
        "scope": SCOPE,
        "exp": in_seconds(2 * MAX_AGE),
    })
}

/// A time from now, in seconds since the epoch.
pub(crate) fn in_seconds(from_now: Duration) -> u64 {
    let at = SystemTime::now() + from_now;
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
