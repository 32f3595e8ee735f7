//! The handle of a layer.

use std::{fmt, sync::Arc};

use crate::{
    api::{Error, Secret, TokenUpdateRequest, TokenUpdateResponse},
    introspect::Introspector,
    lifecycle::Lifecycle,
    resilience::Health,
    store::TokenStore,
};

/// Invalidates, updates and revokes tokens. Cloning is cheap. All clones share the layer's cache.
///
/// If Authlete accepts a token in two forms, such as a JWT and the opaque string that was issued with it,
/// each form has a cache entry of its own. What is done by one form takes effect for the other within
/// [`max_age`](crate::layer::AuthLayerBuilder::max_age), as if it was done by another server.
#[derive(Clone)]
pub struct AuthHandle {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) introspector: Arc<Introspector>,
    pub(crate) store: Arc<TokenStore>,
}

impl AuthHandle {
    /// Invalidates the cache entries of a token, by this value, its newest value and the one before: the
    /// next request with it calls Authlete. The response to a call in flight is neither cached nor used. An
    /// overlap of [rotated](crate::lifecycle::AccessTokenRotation) values ends.
    pub fn forget(&self, token: &str) {
        self.lifecycle.invalidate(token);
    }

    /// Invalidates the cache entries of all tokens.
    pub fn forget_all(&self) {
        self.lifecycle.invalidate_all();
    }

    /// Calls `/auth/token/update`, which changes a token's expiry, scopes, properties, value or binding.
    /// `request` need not name the token.
    ///
    /// The cache entry of the token is updated from the response. The response to a call in flight is
    /// neither cached nor used. If the change gives the token another value or binding, or if it fails, the
    /// token is invalidated. The call is completed even if this future is dropped.
    ///
    /// # Errors
    /// If the call failed or was refused by Authlete. An `action` other than `OK` is no error.
    pub async fn update(
        &self,
        token: &str,
        request: TokenUpdateRequest,
    ) -> Result<TokenUpdateResponse, Error> {
        let (lifecycle, token) = (self.lifecycle.clone(), Secret::from(token));
        finish(async move { lifecycle.update(token.expose(), request).await }).await
    }

    /// The outcome of the last checks, the state of the circuit breaker, and the number of cached tokens and
    /// of calls in flight.
    #[must_use]
    pub fn health(&self) -> Health {
        let health = self.introspector.health(self.store.len());
        Health { is_isolated: self.store.is_isolated(), ..health }
    }

    /// Opens a connection to Authlete by a call without effect, so that the first request need not wait for
    /// a handshake, and wrong credentials are found at startup.
    ///
    /// # Errors
    /// If the call failed or was refused by Authlete.
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.introspector.warm_up().await
    }

    /// Revokes a token (`/auth/token/revoke`) by any value that it had in this process, of the last
    /// 100 000 values. Tells how many tokens Authlete revoked: 0 if there was none, which is no error
    /// (RFC 7009 §2.2); and whether other processes refuse the token, too.
    ///
    /// Once this has returned `Ok`, no request is admitted with the token here, not even by the response to a
    /// call in flight. The revocation is completed even if this future is dropped.
    ///
    /// If a rotation of the token is in flight, its new value is waited for, at most for the time of a
    /// [check](crate::resilience::Resilience::deadline). The newest value is known for a minute after a
    /// rotation. Later, Authlete is asked for another new value, by which the token is revoked.
    ///
    /// Other processes accept the token for at most their `max_age`, and in an outage for their
    /// [`stale_if_error`](crate::CachePolicy::stale_if_error) more.
    ///
    /// # Errors
    /// If the call failed or was refused by Authlete. The token is invalidated nevertheless, and a value that
    /// a rotation gives it here later is revoked.
    pub async fn revoke(&self, token: &str) -> Result<Revoked, Error> {
        let (lifecycle, token) = (self.lifecycle.clone(), Secret::from(token));
        let store = self.store.clone();
        let work = async move {
            let tokens = lifecycle.revoke(token.expose()).await?;
            let all = store.has_reached_all().await;
            Ok(Revoked { tokens, reach: if all { Reach::Fleet } else { Reach::Process } })
        };
        finish(work).await
    }
}

impl fmt::Debug for AuthHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthHandle").finish_non_exhaustive()
    }
}

/// What a [revocation](AuthHandle::revoke) has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revoked {
    /// How many tokens Authlete revoked.
    pub tokens: u64,
    /// Where the token is refused from now on.
    pub reach: Reach,
}

/// How far an invalidation has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// This process. Others accept the token for their `max_age` at most; those of a fleet hear of it as soon as
    /// Redis can be asked.
    Process,
    /// All processes of the fleet that are connected to Redis: they hear of it within some ms. Others use what
    /// they know for a bounded time.
    Fleet,
}

/// Runs `work` to completion in a task of its own, even if the returned future is dropped: a token that is
/// revoked at Authlete must be invalidated here even if the client disconnects.
///
/// A panic of `work` is resumed in the caller.
pub(crate) async fn finish<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The task was cancelled: the runtime is shutting down, and drops the caller too.
            Err(_) => std::future::pending().await,
        },
    }
}
