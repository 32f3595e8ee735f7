//! For unit tests of handlers: requests that count as admitted, without a layer and without Authlete.
//!
//! Extractors and [`Require`](crate::Require) go by what an [`AuthLayer`](crate::AuthLayer) left in a request.
//! A [`TokenInfo`] that other code inserts into its extensions is none of that: they refuse it with 500. Only
//! the functions here make them accept one, and they exist only with the feature `test-util` (which `emulator`
//! contains). Turn it on for `dev-dependencies` alone:
//!
//! ```toml
//! [dev-dependencies]
//! tower-authlete = { version = "0.1", features = ["test-util"] }
//! ```
//!
//! Refusals have the default challenge and an empty body here. For tests of renderers, caching and outages, use
//! the [`emulator`](crate::emulator).
//!
//! ```
//! use axum::{Router, body::Body, http::{Request, StatusCode}, routing::get};
//! use tower::ServiceExt;
//! use tower_authlete::{RequireScopes, TokenInfo, testing};
//!
//! async fn report(token: TokenInfo) -> String {
//!     format!("for {}", token.subject().unwrap_or("nobody"))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let routes = || {
//!     let report = get(report).route_layer(RequireScopes::all(["reports.read"]));
//!     Router::new().route("/report", report)
//! };
//! let request = |token| {
//!     let mut request = Request::get("/report").body(Body::empty()).unwrap();
//!     testing::admit(request.extensions_mut(), token);
//!     request
//! };
//! let alice = TokenInfo::builder().subject("alice").scopes(["reports.read"]).build();
//! let bob = TokenInfo::builder().subject("bob").build();
//! assert_eq!(routes().oneshot(request(alice)).await.unwrap().status(), StatusCode::OK);
//! assert_eq!(routes().oneshot(request(bob)).await.unwrap().status(), StatusCode::FORBIDDEN);
//! # }
//! ```

use http::Extensions;

use crate::{
    request::TestRefuser,
    token::{Properties, Scopes, TokenInfo},
};

/// Makes a request, by its extensions, one that a layer has admitted with this token. What was in them of
/// another layer is replaced. Age and expiry are judged by the system's clock.
pub fn admit(extensions: &mut Extensions, token: TokenInfo) {
    TestRefuser::insert_into(extensions);
    token.insert_into(extensions, false);
}

/// Makes a request, by its extensions, one that an [`optional`](crate::AuthLayer::optional) layer has admitted
/// without a token: extractors are `None` or 401.
pub fn admit_anonymous(extensions: &mut Extensions) {
    TestRefuser::insert_into(extensions);
    extensions.remove::<TokenInfo>();
    extensions.remove::<Scopes>();
    extensions.remove::<Properties>();
}
