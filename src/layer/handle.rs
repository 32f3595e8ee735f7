//! The handle of a layer.

use std::{fmt, sync::Arc};

use crate::{
    api::{Error, Secret, TokenUpdateRequest, TokenUpdateResponse},
    introspect::Introspector,
    lifecycle::Lifecycle,
    resilience::Health,
    store::TokenStore,
};

/// Forgets, revokes and changes tokens. Cloning is cheap; all clones and the layer share one cache.
///
/// A token that Authlete takes by two texts, such as a JWT and the random string that was issued with it, is
/// known under two keys. What is done by one text takes effect for the other within
/// [`max_age`](crate::AuthLayerBuilder::max_age), as if it was done elsewhere.
#[derive(Clone)]
pub struct AuthHandle {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) introspector: Arc<Introspector>,
    pub(crate) store: Arc<TokenStore>,
}

impl AuthHandle {
    /// Forgets what is known of a token, by this value, the newest and the one before: the next request
    /// with it asks Authlete. An answer that is on its way is not used, and an overlap of
    /// [rotated](crate::Rotation) values ends.
    pub fn forget(&self, token: &str) {
        self.lifecycle.invalidate(token);
    }

    /// Forgets what is known of all tokens.
    pub fn forget_all(&self) {
        self.lifecycle.invalidate_all();
    }

    /// Changes a token (`/auth/token/update`): its expiry, scopes, properties, value or binding. The
    /// request need not name the token.
    ///
    /// What is cached of the token is brought up to date by the answer, and an answer that was on its
    /// way is not used. If the change gives the token another value or binds it to a key or
    /// certificate, or if it fails, the token is forgotten.
    ///
    /// # Errors
    /// If Authlete could not be asked or refused the call. An `action` other than `OK` is no error.
    pub async fn update(
        &self,
        token: &str,
        request: TokenUpdateRequest,
    ) -> Result<TokenUpdateResponse, Error> {
        let (lifecycle, token) = (self.lifecycle.clone(), Secret::from(token));
        finish(async move { lifecycle.update(token.expose(), request).await }).await
    }

    /// How the layer and its Authlete are doing.
    #[must_use]
    pub fn health(&self) -> Health {
        self.introspector.health(self.store.len())
    }

    /// Opens a connection to Authlete by a call that has no effect, so that the first request need not
    /// wait for it, and wrong credentials are found at the start.
    ///
    /// # Errors
    /// If Authlete could not be asked or refused the call.
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.introspector.warm_up().await
    }

    /// Revokes a token (`/auth/token/revoke`), by any value that it has had in this process, which
    /// remembers 100 000 values. When this returns `Ok`, no request that has not been decided yet passes
    /// with it here, even if an answer about it is on its way. It tells how many tokens Authlete ended: 0
    /// if there was none, which is no error (RFC 7009 §2.2).
    ///
    /// A value that the token is just getting is waited for, for as long as a
    /// [check](crate::AuthLayerBuilder::check_deadline) may take. If the newest value is not known any more (it is
    /// kept for a minute after a rotation), Authlete is asked for another one, by which the token is
    /// revoked.
    ///
    /// Other processes accept the token for their `max_age` at most, and in an outage for their
    /// [`stale_on_error`](crate::AuthLayerBuilder::stale_on_error) longer.
    ///
    /// # Errors
    /// If Authlete could not be asked or refused the call. The token is forgotten all the same, and a value
    /// that it gets here later is revoked.
    pub async fn revoke(&self, token: &str) -> Result<u64, Error> {
        let (lifecycle, token) = (self.lifecycle.clone(), Secret::from(token));
        finish(async move { lifecycle.revoke(token.expose()).await }).await
    }
}

impl fmt::Debug for AuthHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthHandle").finish_non_exhaustive()
    }
}

/// Finishes what was begun, even if the caller goes away: a token that was revoked at Authlete must
/// not live on here because a browser was closed.
pub(crate) async fn finish<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and so is the caller.
            Err(_) => std::future::pending().await,
        },
    }
}
