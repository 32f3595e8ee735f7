//! What a session is to have in place of what it has, and what becomes of that in the store.

use tower::BoxError;

use super::{
    renewal::{Renewal, State},
    store::{Replaced, SessionId, SessionStore},
    tokens::SessionTokens,
};
use crate::{
    api::{Secret, TokenRevokeRequest},
    observe::limited,
    store::Key,
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

impl Change {
    /// What is to be stored in place of this; `None` if it is there already, or the session has gone
    /// another way.
    fn over(&self, stored: &SessionTokens) -> Option<SessionTokens> {
        match self {
            // The access token can have got a new value meanwhile, which the refresh has replaced.
            Self::Renewed { claimed, new }
                if claimed.claimant() == stored.claimant()
                    && claimed.shares_refresh_token(stored) =>
            {
                Some(new.clone())
            }
            Self::Rotated { old, new } if stored.has_access_token(old) => {
                Some(stored.with_access_token(new))
            }
            _ => None,
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
        let Some(stored) = stored else { return Some(self.into_tokens()) };
        match self {
            // To revoke them would end those that are stored, which can be the same.
            Self::Renewed { new, .. } => (!new.shares_refresh_token(stored)).then_some(new),
            // It is stored, or it has ended by a renewal since.
            Self::Rotated { .. } => None,
        }
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
                    Some(new) => {
                        let replaced = self.store.replace(id, &stored, &new).await;
                        replaced.map(|replaced| (replaced, new))
                    }
                    None => return self.settled(key, change, Some(stored)).await,
                },
                Ok(None) => return self.settled(key, change, None).await,
                Err(error) => Err(error),
            };
            match replaced {
                Ok((Replaced::Done, new)) => {
                    self.unsaved.invalidate(&key);
                    return State::Tokens(new);
                }
                Ok((Replaced::Conflict, _)) => {}
                Err(error) => {
                    limited!(
                        error,
                        self.log,
                        error,
                        "the new tokens of a session could not be saved yet"
                    );
                    break;
                }
            }
        }
        self.unsaved.insert(key, change);
        State::Unknown
    }

    /// There is nothing to store any more.
    async fn settled(&self, key: Key, change: Change, stored: Option<SessionTokens>) -> State {
        self.unsaved.invalidate(&key);
        if let Some(orphan) = change.into_orphan(stored.as_ref()) {
            limited!(
                warn,
                self.log,
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
