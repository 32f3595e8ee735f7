//! What a session is to have in place of what it has, and what becomes of that in the store.

use tower::BoxError;

use super::{
    renewal::{Renewal, State},
    store::{Replaced, SessionId, SessionStore},
    tokens::SessionTokens,
};
use crate::{
    api::{Secret, TokenRevokeRequest},
    cache::Key,
};

/// How often a change is tried, if each time somebody else is faster.
const MAX_TRIES: usize = 4;

/// New tokens, which have to be stored before anyone uses them: those before are used up.
#[derive(Clone)]
pub(super) enum Change {
    /// By the refresh token of what was claimed.
    Renewed { claimed: SessionTokens, new: SessionTokens },
    /// The access token has got a new value, by the layer inside.
    Rotated { old: Secret, new: Secret },
}

/// What a change comes to where this is stored.
enum Outcome {
    /// It has been stored already.
    Stored,
    /// This is to be stored.
    Replace(SessionTokens),
    /// The session has gone another way.
    Overtaken,
}

impl Change {
    fn over(&self, stored: &SessionTokens) -> Outcome {
        match self {
            Self::Renewed { new, .. } if new.version() == stored.version() => Outcome::Stored,
            // The access token can have got a new value meanwhile, which the refresh has replaced.
            Self::Renewed { claimed, new }
                if claimed.claimant() == stored.claimant()
                    && claimed.shares_refresh_token(stored) =>
            {
                Outcome::Replace(new.clone())
            }
            Self::Rotated { new, .. } if stored.has_access_token(new) => Outcome::Stored,
            Self::Rotated { old, new } if stored.has_access_token(old) => {
                Outcome::Replace(stored.with_access_token(new))
            }
            _ => Outcome::Overtaken,
        }
    }

    /// The tokens that it brings.
    fn into_tokens(self) -> SessionTokens {
        match self {
            Self::Renewed { new, .. } => new,
            Self::Rotated { new, .. } => SessionTokens::new(new, None, None),
        }
    }

    /// The tokens that it brings, if nobody else answers for them.
    fn into_orphan(self, stored: Option<&SessionTokens>) -> Option<SessionTokens> {
        let known = match (&self, stored) {
            (_, None) => false,
            // To revoke them would end those that are stored.
            (Self::Renewed { new, .. }, Some(stored)) => new.shares_refresh_token(stored),
            // They have been renewed since, by which this value has ended.
            (Self::Rotated { .. }, Some(_)) => true,
        };
        (!known).then(|| self.into_tokens())
    }
}

impl<St: SessionStore> Renewal<St> {
    /// Stores a change, unless the session has ended or gone another way: then what the change brings
    /// is revoked. `known` is what is stored, if that is known.
    ///
    /// If the store cannot be asked, the change is kept, and nobody uses the session until it is stored.
    pub(super) async fn apply(
        &self,
        id: &SessionId,
        key: Key,
        change: Change,
        mut known: Option<SessionTokens>,
    ) -> State {
        for _ in 0..MAX_TRIES {
            let stored = match known.take() {
                Some(known) => Ok(Some(known)),
                None => self.store.load(id).await,
            };
            let replaced = match stored {
                Ok(Some(stored)) => match change.over(&stored) {
                    Outcome::Stored => return self.applied(key, stored),
                    Outcome::Overtaken => return self.overtaken(key, change, Some(stored)).await,
                    Outcome::Replace(new) => (self.store.replace(id, &stored, &new).await)
                        .map(|replaced| (replaced, new)),
                },
                Ok(None) => return self.overtaken(key, change, None).await,
                Err(error) => Err(error),
            };
            match replaced {
                Ok((Replaced::Done, new)) => return self.applied(key, new),
                Ok((Replaced::Conflict, _)) => {}
                Err(error) => {
                    let error = &*error;
                    tracing::error!(error, "the new tokens of a session could not be saved yet");
                    break;
                }
            }
        }
        self.unsaved.insert(key, change);
        State::Unknown
    }

    fn applied(&self, key: Key, tokens: SessionTokens) -> State {
        self.unsaved.invalidate(&key);
        State::Tokens(tokens)
    }

    async fn overtaken(&self, key: Key, change: Change, stored: Option<SessionTokens>) -> State {
        self.unsaved.invalidate(&key);
        if let Some(orphan) = change.into_orphan(stored.as_ref()) {
            tracing::warn!(
                "a session was ended or renewed elsewhere meanwhile; its new tokens end"
            );
            // They are kept to be revoked later if this fails, which has been logged.
            let _ = self.revoke(key, [orphan]).await;
        }
        stored.map_or(State::Ended, State::Tokens)
    }

    /// Ends a session, and revokes its tokens.
    pub(super) async fn log_out(&self, id: &SessionId) -> Result<(), BoxError> {
        // Who is renewing it here comes first, so that its tokens are revoked as well.
        let (key, _halt) = self.halt(id).await;
        let removed = self.store.remove(id).await?;
        let unsaved = self.unsaved.remove(&key).map(Change::into_tokens);
        self.revoke(key, unsaved.into_iter().chain(removed)).await
    }

    /// Revokes these tokens of a session that is over, and those that could not be revoked before.
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
            // To revoke either of a pair ends both, and the access token may be gone already.
            let request = TokenRevokeRequest::new();
            let request = match &tokens.refresh_token {
                Some(refresh) => request.refresh_token_identifier(refresh),
                None => request.access_token_identifier(&tokens.access_token),
            };
            self.authlete.token_revoke(&request).await.inspect_err(|error| {
                let cause = error as &dyn std::error::Error;
                tracing::error!(error = cause, "the tokens of a session that has ended live on");
            })?;
        }
        self.unrevoked.invalidate(&key);
        Ok(())
    }
}
