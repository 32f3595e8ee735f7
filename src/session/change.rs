//! A change of a session's tokens, and what it means for the tokens that are stored by now.

use super::tokens::SessionTokens;
use crate::api::Secret;

/// New tokens of a session. The tokens before are used up, so a change is stored before it is used.
#[derive(Clone)]
pub(super) enum Change {
    /// The refresh token of the claimed tokens was used.
    Renewed { claimed: SessionTokens, new: SessionTokens },
    /// The access token was rotated by the layer inside.
    Rotated { old: Secret, new: Secret },
}

impl Change {
    /// The tokens that replace these; `None` if the change is stored already, or these are not its
    /// predecessors.
    pub(super) fn over(&self, stored: &SessionTokens) -> Option<SessionTokens> {
        match self {
            // A rotation since the claim makes no difference: the new tokens replace its value too.
            Self::Renewed { claimed, new }
                if claimed.shares_claim(stored) && claimed.shares_refresh_token(stored) =>
            {
                Some(stored.renewed(new))
            }
            Self::Rotated { old, new } if stored.has_access_token(old) => {
                Some(stored.with_access_token(new))
            }
            _ => None,
        }
    }

    /// The new tokens.
    pub(super) fn into_tokens(self) -> SessionTokens {
        match self {
            Self::Renewed { new, .. } => new,
            Self::Rotated { new, .. } => SessionTokens::new(new, None, None),
        }
    }

    /// The new tokens, if they have to be revoked, because these are stored instead.
    pub(super) fn into_revocable(self, stored: Option<&SessionTokens>) -> Option<SessionTokens> {
        let Some(stored) = stored else { return Some(self.into_tokens()) };
        match self {
            // With a shared refresh token, a revocation would end the stored tokens as well.
            Self::Renewed { new, .. } => (!new.shares_refresh_token(stored)).then_some(new),
            // It is stored, or was replaced by a renewal since.
            Self::Rotated { .. } => None,
        }
    }
}
