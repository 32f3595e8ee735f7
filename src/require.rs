//! What a token has to be like: requirements of a layer or of a route.
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_authlete::{AuthLayer, Authlete, Require};
//!
//! # fn example(authlete: Authlete) -> Router {
//! let reports = get(|| async { "reports" }).route_layer(Require::scopes(["reports.read"]));
//! Router::new().route("/reports", reports).layer(AuthLayer::new(authlete))
//! # }
//! ```

pub use crate::{
    authorize::{Require, RequireDetails},
    layer::RequireService,
};
