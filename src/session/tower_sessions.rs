//! Sessions in the stores of tower-sessions: databases, Redis and others.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard};
use tower::BoxError;
use tower_sessions_core::session::{Id, Record};

use super::{
    store::{Replaced, SessionId, SessionStore},
    tokens::SessionTokens,
};
use crate::clock::CENTURY;

/// The key of the tokens in a record's data.
const TOKENS: &str = "tower-authlete.tokens";

/// How many locks sessions share. A power of two.
const LOCKS: usize = 64;

/// Keeps sessions in a store of [tower-sessions](tower_sessions_core), for **one process only**.
///
/// The stores of tower-sessions have no compare-and-set. This adapter holds a lock instead, which it shares
/// with its clones only: if two processes, or two adapters, use one store, a session that one of them ends
/// while the other renews it can be restored, and a session can lose its tokens. Several processes need a
/// [`SessionStore`] of your own.
///
/// The store holds the tokens in plaintext: restrict access to it. No layer of tower-sessions is needed:
/// the cookie is that of [`SessionLayer`](super::SessionLayer).
#[derive(Clone)]
pub struct TowerSessionsStore<S> {
    store: S,
    life: Duration,
    locks: Arc<[Mutex<()>; LOCKS]>,
}

impl<S> TowerSessionsStore<S> {
    /// Stores sessions in `store`. A session that is not renewed for `life` expires: give the lifetime of
    /// refresh tokens. More than 100 years count as 100 years.
    pub fn new(store: S, life: Duration) -> Self {
        let locks = Arc::new(std::array::from_fn(|_| Mutex::default()));
        Self { store, life: life.min(CENTURY), locks }
    }

    async fn lock(&self, id: &SessionId) -> MutexGuard<'_, ()> {
        self.locks[usize::from(id.digest()[0]) % LOCKS].lock().await
    }

    fn record(&self, id: &SessionId, tokens: &SessionTokens) -> Result<Record, BoxError> {
        let data = [(TOKENS.to_owned(), serde_json::to_value(tokens)?)].into();
        let expiry_date = OffsetDateTime::from(SystemTime::now() + self.life);
        Ok(Record { id: name(id), data, expiry_date })
    }
}

/// The store is not shown: it holds tokens.
impl<S> fmt::Debug for TowerSessionsStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TowerSessionsStore").field("life", &self.life).finish_non_exhaustive()
    }
}

impl<S: tower_sessions_core::SessionStore> SessionStore for TowerSessionsStore<S> {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        let record = self.store.load(&name(id)).await?;
        let tokens = record.and_then(|mut record| record.data.remove(TOKENS));
        // An error of serde would quote the tokens.
        let tokens = tokens.map(serde_json::from_value).transpose();
        tokens.map_err(|_| "a stored session does not have the shape of one".into())
    }

    async fn insert(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        let mut record = self.record(id, tokens)?;
        self.store.create(&mut record).await?;
        if record.id == name(id) { Ok(()) } else { Err("the name of the session is taken".into()) }
    }

    async fn replace(
        &self,
        id: &SessionId,
        loaded: &SessionTokens,
        new: &SessionTokens,
    ) -> Result<Replaced, BoxError> {
        let _lock = self.lock(id).await;
        match self.load(id).await? {
            Some(stored) if stored.version() == loaded.version() => {
                self.store.save(&self.record(id, new)?).await?;
                Ok(Replaced::Done)
            }
            _ => Ok(Replaced::Conflict),
        }
    }

    async fn remove(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        let _lock = self.lock(id).await;
        // A session that cannot be read is deleted as well.
        let stored = self.load(id).await;
        self.store.delete(&name(id)).await?;
        stored
    }
}

/// The first 128 of the 256 bits of a session's ID, the size of an ID of tower-sessions.
fn name(id: &SessionId) -> Id {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&id.digest()[..16]);
    Id(i128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tower_sessions_memory_store::MemoryStore;

    use super::*;

    fn store() -> TowerSessionsStore<MemoryStore> {
        TowerSessionsStore::new(MemoryStore::default(), Duration::from_secs(60))
    }

    fn tokens(access: &str) -> SessionTokens {
        SessionTokens::new(access, None, Some("refresh".into()))
    }

    #[tokio::test]
    async fn what_is_kept_is_loaded_and_what_is_removed_is_gone() {
        let (store, one, two) = (store(), SessionId::of("one"), SessionId::of("two"));
        store.insert(&one, &tokens("first")).await.unwrap();
        let loaded = store.load(&one).await.unwrap().unwrap();
        assert_eq!(loaded.version(), tokens("first").version());
        assert_eq!(loaded.refresh_token.unwrap().expose(), "refresh");
        assert!(store.load(&two).await.unwrap().is_none());
        let removed = store.remove(&one).await.unwrap().unwrap();
        assert_eq!(removed.access_token.expose(), "first");
        assert!(store.load(&one).await.unwrap().is_none());
        assert!(store.remove(&one).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn only_one_of_many_replaces_what_was_loaded() {
        let (store, id) = (store(), SessionId::of("one"));
        let first = tokens("first");
        assert_eq!(store.replace(&id, &first, &tokens("x")).await.unwrap(), Replaced::Conflict);
        assert!(store.load(&id).await.unwrap().is_none(), "it was not there to be replaced");
        store.insert(&id, &first).await.unwrap();
        let replacing = (0..10).map(|number| {
            let (store, id, first) = (store.clone(), id.clone(), first.clone());
            async move { store.replace(&id, &first, &tokens(&number.to_string())).await.unwrap() }
        });
        let done = join_all(replacing).await.into_iter().filter(|it| *it == Replaced::Done);
        assert_eq!(done.count(), 1);
    }

    #[tokio::test]
    async fn debug_shows_no_tokens() {
        let store = store();
        store.insert(&SessionId::of("one"), &tokens("t0ken-of-alice")).await.unwrap();
        let shown = format!("{store:?}");
        assert!(!shown.contains("t0ken-of-alice") && !shown.contains("refresh"), "{shown}");
    }
}
