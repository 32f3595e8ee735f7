//! Where the tokens of sessions are kept.

use std::{fmt, time::SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tower::BoxError;

use crate::api::{Secret, TokenResponse};

/// The name of a session in a store: a digest of the cookie, from which the cookie cannot be made.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 32]);

impl SessionId {
    /// The session that a cookie names.
    pub(crate) fn of(cookie: &str) -> Self {
        Self(Sha256::digest(cookie).into())
    }

    /// A cookie for a new session.
    pub(crate) fn new_cookie() -> Secret {
        let mut bytes = [0; 32];
        // As every generator of random numbers does.
        getrandom::fill(&mut bytes).unwrap_or_else(|error| panic!("no randomness: {error}"));
        BASE64_URL_SAFE_NO_PAD.encode(bytes).into()
    }

    /// The digest: SHA-256.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest as 43 characters of the URL-safe base64 alphabet.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.to_base64())
    }
}

/// The tokens of a session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionTokens {
    /// What is presented to the layer inside.
    pub access_token: Secret,
    /// When it expires; `None` if it does not.
    pub expires_at: Option<SystemTime>,
    /// By what it is renewed; `None` if it cannot be.
    pub refresh_token: Option<Secret>,
}

impl SessionTokens {
    /// Tokens that were issued to this server.
    #[must_use]
    pub fn new(
        access_token: impl Into<Secret>,
        expires_at: Option<SystemTime>,
        refresh_token: Option<Secret>,
    ) -> Self {
        Self { access_token: access_token.into(), expires_at, refresh_token }
    }

    /// The tokens of a successful answer of `/auth/token`; `None` if it has none.
    #[must_use]
    pub fn from_response(response: &TokenResponse) -> Option<Self> {
        let access_token = response.jwt_access_token.clone().or(response.access_token.clone())?;
        Some(Self {
            access_token,
            expires_at: response.access_token_expires_at(),
            refresh_token: response.refresh_token.clone(),
        })
    }
}

/// Keeps the tokens of sessions. What is saved must be found by the next [`load`](Self::load), by
/// whatever process.
pub trait SessionStore: Send + Sync + 'static {
    /// The tokens of a session; `None` if there is no such session.
    fn load(
        &self,
        id: &SessionId,
    ) -> impl Future<Output = Result<Option<SessionTokens>, BoxError>> + Send;

    /// Keeps the tokens of a session in place of those it had.
    fn save(
        &self,
        id: &SessionId,
        tokens: &SessionTokens,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Ends a session; to end one that does not exist is no error.
    fn remove(&self, id: &SessionId) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Sessions in this process's memory: they end with it. Of more than 100 000 sessions, those that were
/// not used for longest end.
#[derive(Clone)]
pub struct MemoryStore(Cache<SessionId, SessionTokens>);

impl Default for MemoryStore {
    fn default() -> Self {
        let policy = moka::policy::EvictionPolicy::lru();
        Self(Cache::builder().max_capacity(100_000).eviction_policy(policy).build())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl SessionStore for MemoryStore {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        Ok(self.0.get(id))
    }

    async fn save(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        self.0.insert(id.clone(), tokens.clone());
        Ok(())
    }

    async fn remove(&self, id: &SessionId) -> Result<(), BoxError> {
        self.0.invalidate(id);
        Ok(())
    }
}
