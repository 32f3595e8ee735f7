//! Tower middleware that protects an HTTP API with OAuth 2.0 access tokens issued by
//! [Authlete](https://www.authlete.com).
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_authlete::{AuthLayer, Authlete, ConfigError, Require, TokenInfo};
//!
//! async fn reports(token: TokenInfo) -> String {
//!     format!("reports of {}", token.subject().unwrap_or("a service"))
//! }
//!
//! fn app(authlete: Authlete) -> Result<Router, ConfigError> {
//!     let auth = AuthLayer::builder(authlete).build()?;
//!     let reports = get(reports).route_layer(Require::scopes(["reports.read"]));
//!     Ok(Router::new().route("/reports", reports).route_layer(auth))
//! }
//! ```
//!
//! [`AuthLayer`] checks the access token of each request by Authlete's token APIs, caches the answer, and puts a
//! [`TokenInfo`] into the request's extensions. [`Require`] says what the token of a route must have.
//!
//! # Guides
//! | guide | |
//! |---|---|
//! | [Getting started](guide::getting_started) | from the first line to nested routers, optional routes, typed properties and refusals |
//! | [Testing](guide::testing) | unit tests, an emulator of Authlete, faults, time |
//! | [Production](guide::production) | settings, health, shutdown, outages, metrics, logs |
//! | [Scaling](guide::scaling) | one process and several |
//! | [Proof of possession](guide::proof_of_possession) | DPoP, client certificates, message signatures, step-up |
//! | [Browsers](guide::browsers) | CORS, sessions, cookies |
//! | [Migrating](guide::migrating) | from a middleware by hand, from tower-http, from JWT validation |
//!
//! # How a request is decided
//! | | step | otherwise |
//! |---|---|---|
//! | 1 | There are credentials. | 401, a challenge without `error` |
//! | 2 | They are well formed: one token (RFC 6750 §2.1), not too long, in one place. | 400 `invalid_request` |
//! | 3 | The token looks like one of the service's ([`precheck`]; default: any does). | 401 `invalid_token` |
//! | 4 | With the DPoP scheme: there is one valid proof, made for this request. | 401 `invalid_dpop_proof`, `use_dpop_nonce` |
//! | 5 | The token is cached, or Authlete answers: one call for all requests that wait. | 503 with `Retry-After`; 500 if Authlete refuses the server's own credentials |
//! | 6 | The token is valid. | 401 `invalid_token` |
//! | 7 | A bound token is presented by its holder, with its key or certificate. A proof is used for the first time. | 401 |
//! | 8 | It meets the requirements of the layer, and then of the route. | 403 `insufficient_scope`; 401 `insufficient_user_authentication` (RFC 9470) |
//! | 9 | The request is forwarded, with [`TokenInfo`], [`Scopes`] and [`Properties`] in its extensions. | |
//!
//! An [`optional`](AuthLayer::optional) layer forwards requests without credentials; step 8 is for requests with a token.
//!
//! The response to a gRPC request (POST over HTTP/2 or later with `application/grpc`, or over any version with
//! `application/grpc-web*`) has trailers only: `grpc-status` 16, 7, 3, 14 or 13, a message, and the challenge as
//! metadata.
//!
//! # Modules
//! | module | |
//! |---|---|
//! | [`layer`] | the layer, its settings and its handle |
//! | [`require`] | requirements of tokens |
//! | [`token`], [`rejection`] | the facts of tokens, and refusals |
//! | [`cache`], [`resilience`] | how answers are cached, and how calls are made that may fail |
//! | [`credentials`], [`precheck`] | where tokens are found, and what they look like |
//! | [`proof`] | DPoP, client certificates, message signatures |
//! | [`lifecycle`] | longer lives and new values for tokens in use |
//! | [`fleet`] | processes that share what they know, on Redis |
//! | [`metadata`] | protected resource metadata (RFC 9728) |
//! | [`session`], [`endpoint`], [`delegate`] | sessions of browsers, token and revocation endpoints, outbound calls |
//! | [`axum`], [`testing`], [`emulator`] | extractors, unit tests, an Authlete in memory |
//! | [`api`], [`clock`] | the client of Authlete, and the time |
//!
//! # Features
//! | feature | on by default | |
//! |---|---|---|
//! | `axum` | yes | extractors for axum handlers |
//! | `rustls` | yes | HTTPS to Authlete |
//! | `dpop` | | DPoP proofs (RFC 9449): [`Dpop`] |
//! | `jwt` | | verifies signatures of JWTs before Authlete is asked: [`precheck::JwtPrecheck`] |
//! | `session` | | sessions of browsers: [`session`] |
//! | `tower-sessions` | | keeps them in any store of tower-sessions |
//! | `redis` | | processes share what they know of tokens: [`fleet`] |
//! | `metrics` | | counters for the `metrics` facade: see [the list](guide::production#metrics) |
//! | `test-util` | | requests that count as admitted, for unit tests: [`testing`] |
//! | `emulator` | | an Authlete in memory, for development and tests: [`emulator`]. Contains `test-util` |
// Links to what a feature adds need that feature.
#![cfg_attr(
    not(all(
        feature = "axum",
        feature = "dpop",
        feature = "emulator",
        feature = "jwt",
        feature = "redis",
        feature = "rustls",
        feature = "tower-sessions",
    )),
    allow(rustdoc::broken_intra_doc_links)
)]
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
// Its code blocks use all features.
#[cfg_attr(docsrs, doc(auto_cfg = false))]
#[cfg(any(
    doc,
    all(
        doctest,
        feature = "axum",
        feature = "dpop",
        feature = "emulator",
        feature = "jwt",
        feature = "session",
        feature = "tower-sessions",
    )
))]
pub mod guide;
#[cfg(all(doctest, feature = "axum", feature = "rustls"))]
#[doc = include_str!("../README.md")]
mod readme {}
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
