//! The handle that begins and ends sessions.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue};
use tower::BoxError;

use super::{
    cookie::Cookie,
    renewal::Renewal,
    store::{SessionId, SessionStore},
    tokens::SessionTokens,
};
use crate::layer::finish;

/// Begins and ends sessions.
pub struct Sessions<St> {
    renewal: Arc<Renewal<St>>,
    cookie: Cookie,
}

impl<St: SessionStore> Sessions<St> {
    pub(super) fn new(renewal: Arc<Renewal<St>>, cookie: Cookie) -> Self {
        Self { renewal, cookie }
    }

    /// Begins a session with tokens that were issued to this server, and returns a value for
    /// `Set-Cookie`. Begin a new session at every log-in, and [`end`](Self::end) the one before.
    ///
    /// # Errors
    /// If the tokens cannot be stored within the store's deadline.
    pub async fn begin(&self, tokens: SessionTokens) -> Result<HeaderValue, BoxError> {
        let value = SessionId::new_cookie();
        self.renewal.begin(&SessionId::of(value.expose()), &tokens).await?;
        self.cookie.set(&value)
    }

    /// Ends every session that a request's headers name, revokes their tokens, and returns a value for
    /// `Set-Cookie` that removes the cookie.
    ///
    /// A browser sends one cookie of a name. If there are several, the sessions of the first 16 end,
    /// although a request with more than one has no session. All this completes even if the future is
    /// dropped.
    ///
    /// # Errors
    /// - If a session cannot be removed from the store within its deadline: it may not have ended.
    /// - If its tokens cannot be revoked: it has ended, and another call revokes them, as long as this
    ///   process runs and no more than 10 000 further sessions end in this way.
    /// - If there are more than 16 cookies of the name: the others are ignored.
    ///
    /// The other sessions have ended nevertheless.
    pub async fn end(&self, headers: &HeaderMap) -> Result<HeaderValue, BoxError> {
        let (ids, too_many) = self.cookie.sessions(headers);
        let renewal = self.renewal.clone();
        finish(async move {
            let mut ended = Ok(());
            for id in ids {
                ended = ended.and(renewal.end(&id).await);
            }
            ended
        })
        .await?;
        if too_many {
            Err("too many cookies of sessions".into())
        } else {
            Ok(self.cookie.removal())
        }
    }
}

impl<St> Clone for Sessions<St> {
    fn clone(&self) -> Self {
        Self { renewal: self.renewal.clone(), cookie: self.cookie.clone() }
    }
}

impl<St> fmt::Debug for Sessions<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
