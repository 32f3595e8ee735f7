//! The layer.

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{handle::AuthHandle, service::AuthService};
use crate::{
    rejection::EmptyBody,
    request::{Settings, Variant},
    verify::Freshness,
};

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
    pub(super) variant: Variant,
}

impl<R> AuthLayer<R> {
    /// The same layer, sharing cache and settings, but asking Authlete about every request: for
    /// routes on which nothing but a fresh answer will do. Its answers refresh the cache.
    ///
    /// It can be used inside the layer it was made of, unless that strips credentials.
    #[must_use]
    pub fn bypass_cache(&self) -> Self {
        self.with_freshness(Freshness { fresh: true, ..self.variant.freshness })
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
        let freshness = self.variant.freshness;
        let stale = up_to.min(freshness.stale);
        self.with_freshness(Freshness { stale, ..freshness })
    }

    /// The same layer, sharing cache, settings and handle, but letting requests without credentials
    /// pass: for routes that answer anybody, and more to those who present a token.
    ///
    /// | request | |
    /// |---|---|
    /// | without credentials | passes without a [`TokenInfo`](crate::TokenInfo), whatever the layer [requires](crate::AuthLayerBuilder::require) |
    /// | with a valid token | passes if the token meets what the layer requires; otherwise 401 or 403 |
    /// | with an unknown, expired or revoked token, or malformed credentials | 401 or 400, as ever: a client that presents a token learns that it has to renew it |
    ///
    /// A [`Require`](crate::Require) on a route inside refuses requests without a token with 401;
    /// [`Require::authenticated`](crate::Require::authenticated) does nothing else.
    ///
    /// It goes around other routes than the layer that it is made of, or outside of that: inside, the
    /// requests that it lets pass are refused already.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use tower_authlete::{AuthLayer, TokenInfo};
    ///
    /// async fn front_page(token: Option<TokenInfo>) -> String {
    ///     let subject = token.as_ref().and_then(|token| token.subject());
    ///     format!("hello {}", subject.unwrap_or("stranger"))
    /// }
    /// # async fn account() {}
    ///
    /// # fn app(authlete: tower_authlete::Authlete) -> Router {
    /// let auth = AuthLayer::new(authlete);
    /// let open = Router::new().route("/", get(front_page)).layer(auth.optional());
    /// let closed = Router::new().route("/account", get(account)).layer(auth);
    /// open.merge(closed)
    /// # }
    /// ```
    #[must_use]
    pub fn optional(&self) -> Self {
        self.with(Variant { optional: true, ..self.variant })
    }

    fn with_freshness(&self, freshness: Freshness) -> Self {
        self.with(Variant { freshness, ..self.variant })
    }

    fn with(&self, variant: Variant) -> Self {
        Self { settings: self.settings.clone(), variant }
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
        AuthService::new(inner, self.settings.clone(), self.variant)
    }
}

impl<R> Clone for AuthLayer<R> {
    fn clone(&self) -> Self {
        self.with(self.variant)
    }
}

impl<R> fmt::Debug for AuthLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &*self.settings;
        f.debug_struct("AuthLayer")
            .field("check", &settings.introspector.check())
            .field("optional", &self.variant.optional)
            .field("require", &settings.options.require)
            .field("realm", &settings.options.challenges.realm)
            .field("bypass_cache", &self.variant.freshness.fresh)
            .field("stale_if_error", &self.variant.freshness.stale)
            .finish_non_exhaustive()
    }
}
