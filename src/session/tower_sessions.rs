//! Sessions in the stores of tower-sessions: databases, Redis and others.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tower::BoxError;
use tower_sessions_core::session::{Id, Record};

use super::store::{SessionId, SessionStore, SessionTokens};
use crate::{api::Secret, clock::CENTURY};

/// Under which a record holds the tokens.
const TOKENS: &str = "tower-authlete.tokens";

/// Keeps sessions in a store of [tower-sessions](tower_sessions_core).
///
/// The store holds the tokens themselves: see to it that nobody else can read it. It needs no layer of
/// tower-sessions: the cookie is that of [`SessionLayer`](super::SessionLayer).
#[derive(Debug, Clone)]
pub struct TowerSessionsStore<S> {
    store: S,
    life: Duration,
}

impl<S> TowerSessionsStore<S> {
    /// A session ends when it was not renewed for this time, which should be the life of refresh
    /// tokens: 100 years at most.
    pub fn new(store: S, life: Duration) -> Self {
        Self { store, life: life.min(CENTURY) }
    }
}

/// Tokens as they are stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    access_token: Secret,
    /// ms since the epoch
    expires_at: Option<i64>,
    refresh_token: Option<Secret>,
}

impl<S: tower_sessions_core::SessionStore> SessionStore for TowerSessionsStore<S> {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        let record = self.store.load(&name(id)).await?;
        let Some(tokens) = record.and_then(|mut record| record.data.remove(TOKENS)) else {
            return Ok(None);
        };
        // What serde says would quote the tokens.
        let stored: Stored = serde_json::from_value(tokens)
            .map_err(|_| "a stored session does not have the shape of one")?;
        let at = |millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis));
        let expires_at = stored.expires_at.and_then(|millis| at(u64::try_from(millis).ok()?));
        Ok(Some(SessionTokens {
            access_token: stored.access_token,
            expires_at,
            refresh_token: stored.refresh_token,
        }))
    }

    async fn save(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        let stored = Stored {
            access_token: tokens.access_token.clone(),
            expires_at: tokens.expires_at.map(crate::api::document::to_millis),
            refresh_token: tokens.refresh_token.clone(),
        };
        let id = name(id);
        let data = [(TOKENS.to_owned(), serde_json::to_value(stored)?)].into();
        let expiry_date = OffsetDateTime::from(SystemTime::now() + self.life);
        let mut record = Record { id, data, expiry_date };
        // Some stores save only what is there already, and create only what is not.
        if self.store.load(&id).await?.is_some() {
            return Ok(self.store.save(&record).await?);
        }
        self.store.create(&mut record).await?;
        if record.id == id { Ok(()) } else { Err("the name of the session is taken".into()) }
    }

    async fn remove(&self, id: &SessionId) -> Result<(), BoxError> {
        Ok(self.store.delete(&name(id)).await?)
    }
}

/// 128 of the 256 bits of a session's name, which is all that tower-sessions has room for.
fn name(id: &SessionId) -> Id {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&id.digest()[..16]);
    Id(i128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use tower_sessions_memory_store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_is_saved_is_loaded_and_what_is_removed_is_gone() {
        let store = TowerSessionsStore::new(MemoryStore::default(), Duration::from_secs(60));
        let (one, two) = (SessionId::of("one"), SessionId::of("two"));
        let expires_at = UNIX_EPOCH + Duration::from_millis(1_234_567);
        for value in ["first", "second"] {
            let refresh = Some(Secret::from("refresh"));
            let tokens = SessionTokens::new(value, Some(expires_at), refresh);
            store.save(&one, &tokens).await.unwrap();
            let loaded = store.load(&one).await.unwrap().unwrap();
            assert_eq!(loaded.access_token.expose(), value);
            assert_eq!(loaded.expires_at, Some(expires_at));
            assert_eq!(loaded.refresh_token.unwrap().expose(), "refresh");
        }
        assert!(store.load(&two).await.unwrap().is_none());
        store.remove(&one).await.unwrap();
        assert!(store.load(&one).await.unwrap().is_none());
    }
}
