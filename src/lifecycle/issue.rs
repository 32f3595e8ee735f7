//! What is known of tokens because they were issued here.

use super::Lifecycle;
use crate::{store::PendingIssue, token::TokenInfo};

impl Lifecycle {
    /// Noted before a token is issued.
    pub(crate) fn begin_issue(&self) -> PendingIssue {
        self.parts.store.begin_issue()
    }

    /// The longest life of a token that was issued here begins with its issue.
    pub(crate) fn see_issued(&self, token: &str, issue: PendingIssue) {
        if self.extender.is_some() {
            let key = self.parts.store.key(token);
            self.parts.see(key, issue.started);
        }
    }

    /// Keeps what was told of a token when it was issued, which is a bearer token beyond doubt. What is known
    /// by asking is better, and stays.
    pub(crate) fn remember(&self, token: &str, issued: TokenInfo, issue: PendingIssue) {
        let key = self.parts.store.key(token);
        self.parts.store.remember(key, &issued.guarded(&self.parts.refuser, &key), issue);
    }

    /// Keeps which access token came with a refresh token.
    pub(crate) fn remember_pair(&self, refresh: &str, access: &str) {
        self.pairs.insert(self.refresh_keys.key(refresh), self.parts.store.key(access));
    }

    /// Invalidates the access token that came with a refresh token, which is used up or revoked.
    pub(crate) fn invalidate_pair(&self, refresh: &str) {
        if let Some(access) = self.pairs.get(&self.refresh_keys.key(refresh)) {
            self.invalidate_all_values(access);
        }
    }
}
