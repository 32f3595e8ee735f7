//! What the lifecycles of tokens work with.

use std::{sync::Arc, time::Duration};

use super::lineage::Lineages;
use crate::{
    api::{TokenUpdateRequest, TokenUpdateResponse},
    clock::Clock,
    introspect::Remote,
    observe::LogLimit,
    rejection::Refuser,
    store::{Binding, Key, TokenStore},
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
    pub(crate) refuser: Refuser,
    /// For a check.
    pub(crate) deadline: Duration,
}

impl LifecycleParts {
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
