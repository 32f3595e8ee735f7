//! What the lifecycles of tokens work with.

use std::{sync::Arc, time::Duration};

use super::lineage::Lineages;
use crate::{
    api::{TokenUpdateRequest, TokenUpdateResponse},
    clock::{Clock, Moment},
    introspect::Remote,
    observe::LogLimit,
    rejection::Refuser,
    store::{Binding, Key, TokenStore, tier::Sight},
    token::TokenInfo,
};

/// What extension, rotation, update and revocation are handed.
pub(crate) struct LifecycleParts {
    pub(crate) store: Arc<TokenStore>,
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) lineages: Lineages,
    pub(crate) clock: Clock,
    pub(crate) log: LogLimit,
    /// Goes into the facts of tokens.
    pub(crate) refuser: Arc<Refuser>,
    /// For a check.
    pub(crate) deadline: Duration,
}

impl LifecycleParts {
    /// Notes that a token is known since then, and asks in the background since when other processes know it.
    pub(super) fn see(self: &Arc<Self>, key: Key, since: Moment) {
        if self.lineages.see(&key, since) && self.store.is_shared() {
            let parts = self.clone();
            tokio::spawn(async move { parts.share_sight(&key).await });
        }
    }

    /// Tells other processes since when a token is known, and learns it from them.
    pub(super) async fn share_sight(&self, key: &Key) {
        let Some(keep) = self.lineages.shared_for else { return };
        let own = self.lineages.first_seen(key, self.clock.moment());
        let since = self.store.first_seen(key, Sight::Token, own, keep).await;
        self.lineages.known_since(key, since);
    }

    /// What an update, which was answered with success, makes of the facts of a token, which has the value
    /// `new` from then on. It makes nothing known: the answer does not tell what the token is bound to.
    pub(super) fn facts_after(
        &self,
        known: &TokenInfo,
        binding: Binding,
        (old, new): (Key, Key),
        request: &TokenUpdateRequest,
        response: &TokenUpdateResponse,
    ) -> Option<TokenInfo> {
        let bound =
            request.certificate_thumbprint.is_some() || request.dpop_key_thumbprint.is_some();
        let moved = request.access_token_value_updated == (new != old);
        if bound || !moved || !is_of_type(response, binding) {
            return None;
        }
        Some(known.updated(request, response)?.guarded(&self.refuser, &new))
    }
}

/// Whether an answer is about a token of the type that it was presented as.
fn is_of_type(response: &TokenUpdateResponse, binding: Binding) -> bool {
    let expected = if binding.key.is_some() { "DPoP" } else { "Bearer" };
    response.token_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case(expected))
}
