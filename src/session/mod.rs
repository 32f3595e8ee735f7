//! Sessions of browsers: a backend for a frontend, or a gateway, that holds the tokens itself.
//!
//! The browser has a cookie that names its session. [`SessionLayer`] finds the session's tokens,
//! renews them by the refresh token when they are about to expire, and presents the access token to
//! the [`AuthLayer`](crate::AuthLayer) inside of it. No token ever reaches the browser.
//!
//! Several processes can share a [`SessionStore`] that replaces tokens only on the condition that they are
//! still those that were loaded.
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower::ServiceBuilder;
//! use tower_authlete::{
//!     AuthLayer, Authlete, TokenInfo,
//!     session::{MemoryStore, SessionLayer},
//! };
//!
//! # fn app(authlete: Authlete) -> Result<Router, tower_authlete::ConfigError> {
//! let sessions = SessionLayer::builder(authlete.clone(), MemoryStore::default())
//!     .client("26478243745571", "client-secret")
//!     .build()?;
//! let app = Router::new()
//!     .route("/me", get(|token: TokenInfo| async move { format!("{:?}", token.subject()) }))
//!     .layer(ServiceBuilder::new().layer(sessions).layer(AuthLayer::new(authlete)));
//! # Ok(app)
//! # }
//! ```

mod change;
mod cookie;
mod layer;
mod renewal;
mod service;
mod sessions;
mod store;
mod tokens;
#[cfg(feature = "tower-sessions")]
mod tower_sessions;

#[cfg(feature = "tower-sessions")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower-sessions")))]
pub use self::tower_sessions::TowerSessionsStore;
pub use self::{
    layer::{SessionLayer, SessionLayerBuilder},
    service::{SessionFuture, SessionService},
    sessions::Sessions,
    store::{MemoryStore, Replaced, SessionId, SessionStore},
    tokens::SessionTokens,
};
