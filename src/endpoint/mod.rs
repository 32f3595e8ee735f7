//! The token endpoint (RFC 6749 §3.2) and the revocation endpoint (RFC 7009) of an authorization server,
//! as services to be mounted. Authlete determines the response. The layer's cache is updated before
//! the response is sent.
//!
//! Requests are parsed strictly. A form that is not well-formed is 400, and so is a repeated parameter
//! (RFC 6749 §3.2) other than `resource` (RFC 8707 §2) and `audience` (RFC 8693 §2.1). Basic credentials
//! are form-decoded (RFC 6749 §2.3.1). `Authorization` with anything else is 401. Concurrency and time are
//! bounded by [`Limits`].
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
//!     // The user of the subject token (RFC 8693 §2.1).
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

mod client_request;
mod decision;
mod invalidation;
mod limits;
mod response;
mod revocation;
mod serve;
mod token;

pub use self::{
    decision::Decision,
    limits::Limits,
    revocation::{RevocationEndpoint, RevocationEndpointBuilder},
    serve::EndpointFuture,
    token::{TokenEndpoint, TokenEndpointBuilder},
};
