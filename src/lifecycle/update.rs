//! Updates of tokens by the application.

use super::{Lifecycle, parts::LifecycleParts};
use crate::{
    api::{Error, TokenUpdateAction, TokenUpdateRequest, TokenUpdateResponse},
    introspect::Attempts,
};

impl Lifecycle {
    /// Updates the token at Authlete, and what is known of it here.
    pub(crate) async fn update(
        &self,
        token: &str,
        request: TokenUpdateRequest,
    ) -> Result<TokenUpdateResponse, Error> {
        let LifecycleParts { store, remote, lineages, clock, .. } = &*self.parts;
        let key = store.key(token);
        let update = store.begin_update(key);
        let request = request.access_token(token);
        let response = match remote.update(&request, Attempts::One).await {
            Ok(response) if response.action == TokenUpdateAction::Ok => response,
            // Whatever became of it, what is known may be wrong.
            other => {
                self.invalidate(token);
                return other;
            }
        };
        let value = response.access_token.as_ref();
        let new = value.map_or(key, |value| store.key(value.expose()));
        let id = response.token_id.as_deref();
        let ended = value.filter(|_| lineages.renew(&key, new, id, clock.moment()));
        update.commit(key, None, |known, binding| {
            self.parts.facts_after(known, binding, (key, key), &request, &response)
        });
        // It was revoked meanwhile, by a value that it had no longer.
        if let Some(value) = ended {
            remote.revoke(value).await?;
            self.invalidate(value.expose());
        } else if new != key {
            // Before anybody can present the new value to another process.
            self.parts.share_sight(&new).await;
        }
        Ok(response)
    }
}
