//! Tower middleware for resource servers whose access tokens are issued by Authlete.
//!
//! [`AuthLayer`] answers one question for every request: may it go on, and as whom? It checks the
//! access token through Authlete's token APIs, caches what they tell, and puts it into the request's
//! extensions.
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, routing::get};
//! use tower_authlete::{AuthLayer, Authlete, Require, TokenInfo};
//!
//! async fn reports(token: TokenInfo) -> String {
//!     format!("hello {:?}", token.subject())
//! }
//!
//! # fn app() -> Result<Router, tower_authlete::ConfigError> {
//! let authlete = Authlete::from_env()?;
//! let auth = AuthLayer::builder(authlete).max_age(Duration::from_secs(60)).build()?;
//! let app = Router::new()
//!     .route("/reports", get(reports).route_layer(Require::scopes(["reports.read"])))
//!     .layer(auth);
//! # Ok(app)
//! # }
//! ```
//!
//! # How a request is decided
//! 1. Its credentials are read. Malformed ones are 400, none are 401.
//! 2. What is known of the token is taken from the cache. If nothing is, Authlete is asked: once for
//!    all requests that come with the token meanwhile. A bad token is 401. If Authlete cannot be
//!    asked, it is 503, since that says nothing about the token.
//!    With a DPoP proof or a client certificate, it is also looked at whether the presenter is the
//!    token's holder, on every request.
//! 3. Requirements ([`Require`]) are evaluated from the token's facts, on every
//!    request. Too few scopes are 403, too weak an authentication is 401.
//! 4. [`TokenInfo`], [`Scopes`] and [`Properties`] go into the request's extensions.
//!
//! Where the layer is [`optional`](layer::AuthLayerBuilder::optional), a request without credentials passes without
//! any of this.
//!
//! # What is cached
//! Facts, never decisions. A good answer is kept until the token expires, and at most for
//! [`max_age`](layer::AuthLayerBuilder::max_age); a bad one for
//! [`negative_max_age`](CachePolicy::negative_max_age), in a pool of its own; a failure not at
//! all. In an outage, and only if it is [allowed](CachePolicy::stale_if_error), a good answer serves
//! beyond its age. If calls fail one after another, none is made for [a while](resilience::Breaker).
//! Keys are digests: the cache holds no token. What was said to the holder of a key is never used for
//! another, nor for a bearer.
//!
//! `SECURITY.md` of the package lists all that is kept, and every limit, with its number ("Sizes and bounds").
//!
//! # Where things are
//! | module | |
//! |---|---|
//! | [`layer`] | the layer, its settings and its handle |
//! | [`require`] | requirements of tokens |
//! | [`cache`], [`resilience`] | how answers are cached, and how calls are made that may fail |
//! | [`lifecycle`] | longer lives and new values for tokens in use |
//! | [`proof`] | DPoP, client certificates, signatures |
//! | [`credentials`], [`precheck`] | where tokens are found, and what they look like |
//! | [`token`], [`rejection`] | the facts of tokens, and refusals |
//! | [`metadata`] | protected resource metadata (RFC 9728) |
//! | [`session`], [`endpoint`], [`delegate`] | sessions of browsers, endpoints, outbound calls |
//! | [`api`], [`clock`] | the client of Authlete, and the time |
//!
//! # Features
//! | feature | | |
//! |---|---|---|
//! | `axum` | default | extractors for axum handlers |
//! | `dpop` | default | proofs of possession (RFC 9449) |
//! | `jwt` | default | signatures of access tokens that are JWTs, before Authlete is asked |
//! | `rustls` | default | HTTPS to Authlete |
//! | `session` | default | sessions of browsers, whose tokens are held here |
//! | `tower-sessions` | | keeps those sessions in any store of tower-sessions |
//! | `metrics` | | counters for the `metrics` facade: refused, calls, degraded, full, precheck |
//! | `test-util` | | requests that count as admitted, for unit tests; part of `emulator` |
//! | `emulator` | | an in-memory Authlete, for development and tests |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs, clippy::expect_used, clippy::unwrap_used)]

mod accessors;
pub mod api;
mod authorize;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub mod axum;
pub mod cache;
pub mod clock;
pub mod credentials;
pub mod delegate;
#[cfg(feature = "emulator")]
#[cfg_attr(docsrs, doc(cfg(feature = "emulator")))]
pub mod emulator;
pub mod endpoint;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub mod fleet;
mod introspect;
pub mod layer;
pub mod lifecycle;
pub mod metadata;
mod observe;
pub mod precheck;
pub mod proof;
pub mod rejection;
mod request;
pub mod require;
pub mod resilience;
#[cfg(feature = "session")]
#[cfg_attr(docsrs, doc(cfg(feature = "session")))]
pub mod session;
mod single_flight;
mod store;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod testing;
pub mod token;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
#[path = "../tests/untrusted/mod.rs"]
pub mod untrusted;
mod verdict;
mod verify;

#[cfg(feature = "dpop")]
#[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
#[doc(inline)]
pub use self::proof::Dpop;
#[doc(inline)]
pub use self::{
    api::{Authlete, ConfigError},
    cache::CachePolicy,
    layer::{AuthHandle, AuthLayer},
    rejection::ProblemDetails,
    require::Require,
    resilience::Resilience,
    token::{Properties, Scopes, TokenInfo},
};
