//! The layer.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{handle::AuthHandle, service::AuthService, settings::Settings};
use crate::{rejection::EmptyBody, verify::Freshness};

/// Admits only requests with a valid access token.
///
/// It wraps any `Service<http::Request<B>, Response = http::Response<ResB>>` that is `Clone`, as axum's and
/// hyper's services are. Admitted requests have [`TokenInfo`](crate::TokenInfo),
/// [`Scopes`](crate::Scopes) and [`Properties`](crate::Properties) in their extensions. Others are refused:
/// 401, 403 or 400 if the request has to change (RFC 6750 §3.1), 503 if Authlete cannot be asked, 500 if
/// this server's configuration is wrong.
///
/// Clones share settings and cache. Services must be called within a tokio runtime.
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_authlete::{AuthLayer, Authlete, RequireScopes, TokenInfo};
///
/// async fn reports(token: TokenInfo) -> String {
///     format!("for {}", token.subject().unwrap_or("nobody"))
/// }
///
/// # fn app() -> Result<Router, tower_authlete::ConfigError> {
/// let auth = AuthLayer::new(Authlete::from_env()?);
/// let app = Router::new()
///     .route("/reports", get(reports).route_layer(RequireScopes::all(["reports.read"])))
///     .layer(auth);
/// # Ok(app)
/// # }
/// ```
pub struct AuthLayer<R = EmptyBody> {
    pub(super) settings: Arc<Settings<R>>,
    pub(super) freshness: Freshness,
}

impl<R> AuthLayer<R> {
    /// A layer for routes that need a fresh answer: it shares settings and cache with this one, but calls
    /// Authlete for every request. Its answers are stored in the cache.
    ///
    /// It can be used inside the layer it was made from, unless that
    /// [strips credentials](crate::AuthLayerBuilder::strip_credentials).
    #[must_use]
    pub fn no_cache(&self) -> Self {
        let freshness = Freshness { fresh: true, ..self.freshness };
        Self { freshness, ..self.clone() }
    }

    /// A layer for routes that need a stricter bound of stale answers: it shares settings and cache with
    /// this one. A bound above that of this layer has no effect. See
    /// [`AuthLayerBuilder::stale_on_error`](crate::AuthLayerBuilder::stale_on_error).
    ///
    /// It can be used inside the layer it was made from, unless that
    /// [strips credentials](crate::AuthLayerBuilder::strip_credentials).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use axum::{Router, routing::{get, post}};
    /// # fn app(authlete: tower_authlete::Authlete) -> Result<Router, tower_authlete::ConfigError> {
    /// # async fn handler() {}
    /// let auth = tower_authlete::AuthLayer::builder(authlete)
    ///     .stale_on_error(Duration::from_secs(600))
    ///     .build()?;
    /// let strict = auth.stale_on_error(Duration::ZERO);
    /// let app = Router::new()
    ///     .route("/reports", get(handler))
    ///     .route("/payments", post(handler).route_layer(strict))
    ///     .layer(auth);
    /// # Ok(app)
    /// # }
    /// ```
    #[must_use]
    pub fn stale_on_error(&self, up_to: Duration) -> Self {
        let stale = up_to.min(self.freshness.stale);
        Self { freshness: Freshness { stale, ..self.freshness }, ..self.clone() }
    }

    /// A handle by which this server invalidates, updates and revokes tokens.
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
            .field("no_cache", &self.freshness.fresh)
            .field("stale_on_error", &self.freshness.stale)
            .finish_non_exhaustive()
    }
}
