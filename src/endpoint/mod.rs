//! The endpoints of an authorization server that clients get and end tokens at, as services to be
//! mounted: `/token` (RFC 6749 §3.2) and `/revoke` (RFC 7009). Authlete decides what to answer; what
//! it answers is known to the layer at once.
//!
//! Requests are read strictly: a parameter that is repeated, but for `resource` (RFC 8707 §2) and
//! `audience` (RFC 8693 §2.1), is 400 (RFC 6749 §3.2), and so is a form that is not well-formed. Basic
//! credentials are form-decoded (RFC 6749 §2.3.1); `Authorization` with anything else is 401. What an
//! endpoint takes of this server and of Authlete is [limited](Limits).
//!
//! ```
//! use axum::Router;
//! use tower_authlete::{
//!     AuthLayer, Authlete,
//!     api::{TokenAction, TokenFailReason},
//!     endpoint::{Decision, RevocationEndpoint, TokenEndpoint},
//! };
//!
//! # fn app(authlete: Authlete) -> Result<Router, tower_authlete::ConfigError> {
//! let auth = AuthLayer::new(authlete.clone());
//! let token = TokenEndpoint::builder(authlete.clone(), &auth.handle()).decide(async |request| {
//!     // Who is it that a token was handed in for?
//!     match (request.action, request.subject_token_info) {
//!         (TokenAction::TokenExchange, Some(token)) => match token.subject {
//!             Some(subject) => Decision::issue(subject),
//!             None => Decision::refuse(TokenFailReason::InvalidTarget),
//!         },
//!         _ => Decision::refuse(TokenFailReason::Unknown),
//!     }
//! });
//! let app = Router::new()
//!     .route_service("/token", token.build()?)
//!     .route_service("/revoke", RevocationEndpoint::new(authlete, &auth.handle()));
//! # Ok(app)
//! # }
//! ```

mod answer;
mod decision;
mod form;
mod front;
mod limits;
mod revocation;
mod token;

pub use self::{
    decision::Decision,
    front::EndpointFuture,
    limits::Limits,
    revocation::{RevocationEndpoint, RevocationEndpointBuilder},
    token::{TokenEndpoint, TokenEndpointBuilder},
};
