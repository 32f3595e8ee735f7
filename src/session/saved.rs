//! The stored tokens of sessions: loaded, replaced by compare-and-set, removed and revoked.

use moka::{policy::EvictionPolicy, sync::Cache};
use tower::BoxError;

use super::{
    change::Change,
    store::{Bounded, Replaced, SessionId, SessionStore},
    tokens::SessionTokens,
};
use crate::{
    api::{Authlete, TokenRevokeRequest},
    observe::{LogLimit, limited},
    store::Key,
};

/// How many sessions each table has room for.
const MAX_REMEMBERED: u64 = 10_000;

/// How often a change is tried, if each time another process replaces the tokens first.
const MAX_TRIES: usize = 4;

/// What is known of a session.
#[derive(Clone)]
pub(super) enum State {
    /// It has these tokens.
    Tokens(SessionTokens),
    /// It does not exist, or has ended.
    Ended,
    /// Its tokens are not known now, or must not be used.
    Unknown,
}

/// The outcome of storing a change.
enum Applied {
    Stored(SessionTokens),
    /// The session has ended, or has tokens that the change does not apply to.
    Obsolete(Option<SessionTokens>),
    Conflict,
}

/// A store, and what could not be done with it yet.
pub(super) struct Saved<St> {
    pub(super) store: Bounded<St>,
    authlete: Authlete,
    log: LogLimit,
    /// Changes that could not be stored. Nobody uses their sessions until they are.
    pub(super) unsaved: Cache<Key, Change>,
    /// Tokens of ended sessions that could not be revoked.
    unrevoked: Cache<Key, Vec<SessionTokens>>,
}

/// A table of sessions, of which the least recently used is evicted.
pub(super) fn table<V: Clone + Send + Sync + 'static>() -> Cache<Key, V> {
    Cache::builder().max_capacity(MAX_REMEMBERED).eviction_policy(EvictionPolicy::lru()).build()
}

impl<St: SessionStore> Saved<St> {
    pub(super) fn new(store: Bounded<St>, authlete: Authlete, log: LogLimit) -> Self {
        Self { store, authlete, log, unsaved: table(), unrevoked: table() }
    }

    pub(super) async fn load(&self, id: &SessionId) -> State {
        match self.store.load(id).await {
            Ok(Some(tokens)) => State::Tokens(tokens),
            Ok(None) => State::Ended,
            Err(error) => {
                limited!(
                    error,
                    self.log,
                    error = &*error,
                    "the tokens of a session could not be loaded"
                );
                State::Unknown
            }
        }
    }

    /// Stores a change, or revokes its tokens if the session has ended or was changed otherwise. `known`:
    /// the tokens that are stored, if that is known.
    ///
    /// If the store fails, the change is kept in `unsaved`, and nobody uses the session until it is stored.
    pub(super) async fn apply(
        &self,
        id: &SessionId,
        key: Key,
        change: Change,
        known: Option<SessionTokens>,
    ) -> State {
        match self.replace(id, &change, known).await {
            Ok(Applied::Stored(new)) => {
                self.unsaved.invalidate(&key);
                return State::Tokens(new);
            }
            Ok(Applied::Obsolete(stored)) => return self.discard(key, change, stored).await,
            Ok(Applied::Conflict) => {}
            Err(error) => {
                limited!(
                    error,
                    self.log,
                    error,
                    "the new tokens of a session could not be saved yet"
                );
            }
        }
        self.unsaved.insert(key, change);
        State::Unknown
    }

    async fn replace(
        &self,
        id: &SessionId,
        change: &Change,
        mut known: Option<SessionTokens>,
    ) -> Result<Applied, BoxError> {
        for _ in 0..MAX_TRIES {
            let stored = match known.take() {
                None => self.store.load(id).await?,
                known => known,
            };
            let new = stored.as_ref().and_then(|stored| change.over(stored));
            let (Some(loaded), Some(new)) = (&stored, new) else {
                return Ok(Applied::Obsolete(stored));
            };
            if let Replaced::Done = self.store.replace(id, loaded, &new).await? {
                return Ok(Applied::Stored(new));
            }
        }
        Ok(Applied::Conflict)
    }

    /// Drops a change that no longer applies, and revokes its tokens.
    async fn discard(&self, key: Key, change: Change, stored: Option<SessionTokens>) -> State {
        self.unsaved.invalidate(&key);
        if let Some(tokens) = change.into_revocable(stored.as_ref()) {
            limited!(
                warn,
                self.log,
                "a session was ended or renewed elsewhere meanwhile; its new tokens end"
            );
            // A failure is logged, and the tokens are kept in `unrevoked`.
            let _ = self.revoke(key, [tokens]).await;
        }
        stored.map_or(State::Ended, State::Tokens)
    }

    /// Ends a session, and revokes its tokens. The caller keeps it from being renewed meanwhile.
    pub(super) async fn end(&self, id: &SessionId, key: Key) -> Result<(), BoxError> {
        let removed = self.store.remove(id).await?;
        let unsaved = self.unsaved.remove(&key).map(Change::into_tokens);
        self.revoke(key, unsaved.into_iter().chain(removed)).await
    }

    /// Revokes these tokens of a session, and those that could not be revoked before.
    async fn revoke(
        &self,
        key: Key,
        tokens: impl IntoIterator<Item = SessionTokens>,
    ) -> Result<(), BoxError> {
        let mut all = self.unrevoked.remove(&key).unwrap_or_default();
        all.extend(tokens);
        if all.is_empty() {
            return Ok(());
        }
        self.unrevoked.insert(key, all.clone());
        for tokens in &all {
            // Revoking either token of a pair ends both; the access token may have expired already.
            let request = TokenRevokeRequest::new();
            let request = match &tokens.refresh_token {
                Some(refresh) => request.refresh_token_identifier(refresh),
                None => request.access_token_identifier(&tokens.access_token),
            };
            self.authlete.token_revoke(&request).await.inspect_err(|error| {
                let cause = error as &dyn std::error::Error;
                limited!(
                    error,
                    self.log,
                    error = cause,
                    "the tokens of a session that has ended live on"
                );
            })?;
        }
        self.unrevoked.invalidate(&key);
        Ok(())
    }
}
