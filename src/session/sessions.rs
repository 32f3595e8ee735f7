//! How sessions begin and end.

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

    /// Begins a session with tokens that were issued to this server. The answer is a value for
    /// `Set-Cookie`. Begin a new session at every log-in, and [`end`](Self::end) the one before.
    ///
    /// # Errors
    /// If the tokens cannot be stored, within the store's deadline.
    pub async fn begin(&self, tokens: SessionTokens) -> Result<HeaderValue, BoxError> {
        let value = SessionId::new_cookie();
        self.renewal.store.insert(&SessionId::of(value.expose()), &tokens).await?;
        self.cookie.set(&value)
    }

    /// Ends every session that a request's headers name, and revokes their tokens. The answer is a value
    /// for `Set-Cookie` that takes the cookie away.
    ///
    /// A browser sends one cookie of a name; should there be several, the sessions of up to 16 are ended,
    /// though requests with more than one have no session. It is finished even if the future is dropped.
    ///
    /// # Errors
    /// - If a session cannot be removed from the store, within its deadline: it may not have ended.
    /// - If its tokens cannot be revoked: it has ended, and this can be called again to revoke them, as
    ///   long as this process runs and not more than 10 000 further sessions end in this way.
    /// - If there are more than 16 cookies of the name: of further ones nothing was done.
    ///
    /// What can be ended has been ended nevertheless.
    pub async fn end(&self, headers: &HeaderMap) -> Result<HeaderValue, BoxError> {
        let (ids, more) = self.cookie.sessions(headers);
        let renewal = self.renewal.clone();
        finish(async move {
            let mut ended = Ok(());
            for id in ids {
                ended = ended.and(renewal.log_out(&id).await);
            }
            ended
        })
        .await?;
        if more { Err("too many cookies of sessions".into()) } else { Ok(self.cookie.removal()) }
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
