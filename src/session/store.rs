//! Stores of sessions.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use moka::{ops::compute::Op, sync::Cache};
use sha2::{Digest, Sha256};
use tower::BoxError;

use super::tokens::SessionTokens;
use crate::api::Secret;

/// The name of a session in a store: a digest of the cookie, which does not reveal the cookie.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 32]);

impl SessionId {
    /// The session that a cookie names.
    pub(crate) fn of(cookie: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(cookie).into())
    }

    /// A cookie for a new session.
    pub(crate) fn new_cookie() -> Secret {
        random().into()
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

/// 256 random bits, in base64url.
///
/// # Panics
/// If the operating system provides no randomness.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap_or_else(|error| panic!("no randomness: {error}"));
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The outcome of [`SessionStore::replace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Replaced {
    /// The session has the new tokens.
    Done,
    /// The session does not exist, or has other tokens than were loaded. Nothing was changed.
    Conflict,
}

/// Stores the tokens of sessions. Reads are consistent: a [`load`](Self::load) by any process returns what
/// was stored last.
///
/// Where several processes share a store, [`replace`](Self::replace) and [`remove`](Self::remove) have
/// to be atomic. Otherwise a session that one process ends can be restored by another that is renewing it.
///
/// A call that fails, or is dropped at
/// [`store_deadline`](super::SessionLayerBuilder::store_deadline), may have taken effect.
///
/// | | SQL | Redis |
/// |---|---|---|
/// | `load` | `SELECT tokens … WHERE id = $1` | `HGET id tokens` |
/// | `insert` | `INSERT … (id, version, tokens)` | `HSET id version … tokens …`, `EXPIRE` |
/// | `replace` | `UPDATE … SET version = $3, tokens = $4 WHERE id = $1 AND version = $2`: one row, or a conflict | a script that compares `HGET id version`, then `HSET` |
/// | `remove` | `DELETE … WHERE id = $1 RETURNING tokens` | a script: `HGET id tokens`, then `DEL` |
///
/// Abandoned sessions are never removed by a call: let the store expire them after the lifetime of refresh
/// tokens.
///
/// ```
/// use std::{collections::HashMap, sync::Mutex};
///
/// use tower::BoxError;
/// use tower_authlete::session::{Replaced, SessionId, SessionStore, SessionTokens};
///
/// /// A table with the columns `id`, `version` and `tokens`.
/// #[derive(Default)]
/// struct Table(Mutex<HashMap<String, (String, String)>>);
///
/// impl SessionStore for Table {
///     async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
///         let table = self.0.lock().unwrap();
///         let Some((_, tokens)) = table.get(&id.to_base64()) else { return Ok(None) };
///         Ok(serde_json::from_str(tokens)?)
///     }
///
///     async fn insert(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
///         let row = (tokens.version(), serde_json::to_string(tokens)?);
///         self.0.lock().unwrap().insert(id.to_base64(), row);
///         Ok(())
///     }
///
///     async fn replace(
///         &self,
///         id: &SessionId,
///         loaded: &SessionTokens,
///         new: &SessionTokens,
///     ) -> Result<Replaced, BoxError> {
///         let row = (new.version(), serde_json::to_string(new)?);
///         match self.0.lock().unwrap().get_mut(&id.to_base64()) {
///             Some(stored) if stored.0 == loaded.version() => *stored = row,
///             _ => return Ok(Replaced::Conflict),
///         }
///         Ok(Replaced::Done)
///     }
///
///     async fn remove(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
///         let row = self.0.lock().unwrap().remove(&id.to_base64());
///         Ok(row.map(|(_, tokens)| serde_json::from_str(&tokens)).transpose()?)
///     }
/// }
/// ```
pub trait SessionStore: Send + Sync + 'static {
    /// The tokens of a session; `None` if there is no such session.
    fn load(
        &self,
        id: &SessionId,
    ) -> impl Future<Output = Result<Option<SessionTokens>, BoxError>> + Send;

    /// Stores the tokens of a new session.
    fn insert(
        &self,
        id: &SessionId,
        tokens: &SessionTokens,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Replaces the tokens that were loaded by new ones, if the session still has those: a compare-and-set
    /// by their [`version`](SessionTokens::version).
    fn replace(
        &self,
        id: &SessionId,
        loaded: &SessionTokens,
        new: &SessionTokens,
    ) -> impl Future<Output = Result<Replaced, BoxError>> + Send;

    /// Removes a session, and returns the tokens that it had; `None` if there was no such session.
    fn remove(
        &self,
        id: &SessionId,
    ) -> impl Future<Output = Result<Option<SessionTokens>, BoxError>> + Send;
}

/// A store whose calls have a deadline.
pub(super) struct Bounded<St> {
    store: St,
    deadline: Duration,
}

impl<St> Bounded<St> {
    pub(super) fn new(store: St, deadline: Duration) -> Self {
        Self { store, deadline }
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        let late = |_| Err(format!("no answer within {} ms", self.deadline.as_millis()).into());
        tokio::time::timeout(self.deadline, call).await.unwrap_or_else(late)
    }
}

impl<St: SessionStore> SessionStore for Bounded<St> {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        self.within(self.store.load(id)).await
    }

    async fn insert(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        self.within(self.store.insert(id, tokens)).await
    }

    async fn replace(
        &self,
        id: &SessionId,
        loaded: &SessionTokens,
        new: &SessionTokens,
    ) -> Result<Replaced, BoxError> {
        self.within(self.store.replace(id, loaded, new)).await
    }

    async fn remove(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        self.within(self.store.remove(id)).await
    }
}

/// A store in the memory of this process: its sessions end with the process. Clones share it. It has room
/// for 100 000 sessions; beyond that the least recently used end, and their tokens are not revoked.
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

    async fn insert(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        self.0.insert(id.clone(), tokens.clone());
        Ok(())
    }

    async fn replace(
        &self,
        id: &SessionId,
        loaded: &SessionTokens,
        new: &SessionTokens,
    ) -> Result<Replaced, BoxError> {
        let (loaded, mut replaced) = (loaded.version(), Replaced::Conflict);
        // moka serializes this and `remove` per key.
        let _ = self.0.entry_by_ref(id).and_compute_with(|stored| match stored {
            Some(stored) if stored.value().version() == loaded => {
                replaced = Replaced::Done;
                Op::Put(new.clone())
            }
            _ => Op::Nop,
        });
        Ok(replaced)
    }

    async fn remove(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        let mut removed = None;
        let _ = self.0.entry_by_ref(id).and_compute_with(|stored| {
            removed = stored.map(|stored| stored.into_value());
            Op::Remove
        });
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_replaces_only_what_was_loaded() {
        let (store, id) = (MemoryStore::default(), SessionId::of("cookie"));
        let [one, two, three] =
            ["one", "two", "three"].map(|it| SessionTokens::new(it, None, None));
        assert_eq!(store.replace(&id, &one, &two).await.unwrap(), Replaced::Conflict);
        assert!(store.load(&id).await.unwrap().is_none());
        store.insert(&id, &one).await.unwrap();
        assert_eq!(store.replace(&id, &one, &two).await.unwrap(), Replaced::Done);
        assert_eq!(store.replace(&id, &one, &three).await.unwrap(), Replaced::Conflict);
        let removed = store.remove(&id).await.unwrap().unwrap();
        assert_eq!(removed.version(), two.version());
        assert_eq!(store.replace(&id, &two, &three).await.unwrap(), Replaced::Conflict);
        assert!(store.remove(&id).await.unwrap().is_none());
    }
}
