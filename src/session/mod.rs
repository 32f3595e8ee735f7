//! Sessions of browsers, for a backend for frontend (BFF) or a gateway that holds the tokens itself.
//!
//! The browser has a cookie that names its session. [`SessionLayer`] loads the session's tokens,
//! renews them by the refresh token shortly before they expire, and presents the access token to
//! the [`AuthLayer`](crate::AuthLayer) inside of it. No token reaches the browser.
//!
//! Several processes can share a [`SessionStore`] that replaces tokens by compare-and-set.
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
mod client;
mod cookie;
mod layer;
mod renewal;
mod saved;
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
