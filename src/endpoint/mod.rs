//! The endpoints of an authorization server that clients get and end tokens at, as services to be
//! mounted: `/token` (RFC 6749 §3.2) and `/revoke` (RFC 7009). Authlete decides what to answer; what
//! it answers is known to the layer at once.
//!
//! ```
//! use axum::Router;
//! use tower_authlete::{
//!     AuthLayer, Authlete,
//!     api::{TokenAction, TokenFailReason},
//!     endpoint::{Decision, RevocationEndpoint, TokenEndpoint},
//! };
//!
//! # fn app(authlete: Authlete) -> Router {
//! let auth = AuthLayer::new(authlete.clone());
//! let token = TokenEndpoint::new(authlete.clone(), &auth.handle()).decide(async |request| {
//!     // Who is it that a token was handed in for?
//!     match (request.action, request.subject_token_info) {
//!         (TokenAction::TokenExchange, Some(token)) => match token.subject {
//!             Some(subject) => Decision::issue(subject),
//!             None => Decision::refuse(TokenFailReason::InvalidTarget),
//!         },
//!         _ => Decision::refuse(TokenFailReason::Unknown),
//!     }
//! });
//! Router::new()
//!     .route_service("/token", token)
//!     .route_service("/revoke", RevocationEndpoint::new(authlete, &auth.handle()))
//! # }
//! ```

mod form;
mod revocation;
mod token;

pub use self::{
    form::EndpointFuture,
    revocation::RevocationEndpoint,
    token::{Decision, TokenEndpoint},
};
