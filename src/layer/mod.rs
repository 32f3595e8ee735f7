//! The layer, its settings and its handle; and the services that it makes.
//!
//! ```
//! use std::time::Duration;
//! use tower_authlete::{AuthLayer, Authlete};
//!
//! # async fn example(authlete: Authlete) -> Result<(), Box<dyn std::error::Error>> {
//! let auth = AuthLayer::builder(authlete).max_age(Duration::from_secs(30)).build()?;
//! let revoked = auth.handle().revoke("an access token").await?;
//! # let _ = revoked;
//! # Ok(())
//! # }
//! ```

mod auth;
mod builder;
mod future;
mod handle;
mod require;
mod service;

pub(crate) use self::handle::finish;
pub use self::{
    auth::AuthLayer,
    builder::AuthLayerBuilder,
    future::AuthFuture,
    handle::{AuthHandle, Reach, Revoked},
    require::RequireService,
    service::AuthService,
};
pub use crate::introspect::CheckApi;
