//! The layer.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{handle::AuthHandle, service::AuthService};
use crate::{rejection::EmptyBody, request::Settings, verify::Freshness};

/// Lets only requests with a good access token pass.
///
/// It goes around any `Service<http::Request<B>, Response = http::Response<ResB>>`. The service must
/// be `Clone`, as axum's and hyper's are. Requests that pass have [`TokenInfo`](crate::TokenInfo),
/// [`Scopes`](crate::Scopes) and [`Properties`](crate::Properties) in their extensions.
///
/// Clones share the cache. Services must be called within a tokio runtime.
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_authlete::{AuthLayer, Authlete, Require, TokenInfo};
///
/// async fn reports(token: TokenInfo) -> String {
///     format!("for {}", token.subject().unwrap_or("nobody"))
/// }
///
/// # fn app() -> Result<Router, tower_authlete::ConfigError> {
/// let auth = AuthLayer::new(Authlete::from_env()?);
/// let app = Router::new()
///     .route("/reports", get(reports).route_layer(Require::scopes(["reports.read"])))
///     .layer(auth);
/// # Ok(app)
/// # }
/// ```
pub struct AuthLayer<R = EmptyBody> {
    pub(super) settings: Arc<Settings<R>>,
    pub(super) freshness: Freshness,
}

impl<R> AuthLayer<R> {
    /// The same layer, sharing cache and settings, but asking Authlete about every request: for
    /// routes on which nothing but a fresh answer will do. Its answers refresh the cache.
    ///
    /// It can be used inside the layer it was made of, unless that strips credentials.
    #[must_use]
    pub fn bypass_cache(&self) -> Self {
        let freshness = Freshness { fresh: true, ..self.freshness };
        Self { freshness, ..self.clone() }
    }

    /// The same layer, sharing cache and settings, but with another bound for what may be out of date
    /// in an outage: for routes on which that should be less, or zero. It is never more than that of
    /// the layer it is made of: see [`CachePolicy::stale_if_error`](crate::CachePolicy::stale_if_error).
    ///
    /// It can be used inside the layer it was made of, unless that strips credentials.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use axum::{Router, routing::{get, post}};
    /// # fn app(authlete: tower_authlete::Authlete) -> Result<Router, tower_authlete::ConfigError> {
    /// # async fn handler() {}
    /// let auth = tower_authlete::AuthLayer::builder(authlete)
    ///     .stale_if_error(Duration::from_secs(600))
    ///     .build()?;
    /// let strict = auth.stale_if_error(Duration::ZERO);
    /// let app = Router::new()
    ///     .route("/reports", get(handler))
    ///     .route("/payments", post(handler).route_layer(strict))
    ///     .layer(auth);
    /// # Ok(app)
    /// # }
    /// ```
    #[must_use]
    pub fn stale_if_error(&self, up_to: Duration) -> Self {
        let stale = up_to.min(self.freshness.stale);
        Self { freshness: Freshness { stale, ..self.freshness }, ..self.clone() }
    }

    /// A handle to forget and revoke tokens by.
    #[must_use]
    pub fn handle(&self) -> AuthHandle {
        let Settings { verifier, introspector, lifecycle, .. } = &*self.settings;
        AuthHandle {
            lifecycle: lifecycle.clone(),
            introspector: introspector.clone(),
            store: verifier.store.clone(),
        }
    }
}

impl<S, R> Layer<S> for AuthLayer<R> {
    type Service = AuthService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthService::new(inner, self.settings.clone(), self.freshness)
    }
}

impl<R> Clone for AuthLayer<R> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), freshness: self.freshness }
    }
}

impl<R> fmt::Debug for AuthLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &*self.settings;
        f.debug_struct("AuthLayer")
            .field("check", &settings.introspector.check())
            .field("optional", &settings.options.optional)
            .field("require", &settings.options.require)
            .field("realm", &settings.options.challenges.realm)
            .field("bypass_cache", &self.freshness.fresh)
            .field("stale_if_error", &self.freshness.stale)
            .finish_non_exhaustive()
    }
}
