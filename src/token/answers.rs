//! The facts of a token, from answers of Authlete.

use std::{num::NonZeroI64, sync::Arc};

use super::{Facts, TokenInfo};
use crate::api::{
    IntrospectionResponse, Scope, TokenCreateResponse, TokenIssueResponse, TokenResponse,
    TokenUpdateRequest, TokenUpdateResponse,
};

impl TokenInfo {
    pub(super) fn new(
        mut known: IntrospectionResponse,
        update: Option<TokenUpdateResponse>,
        complete: bool,
    ) -> Self {
        let nonzero = |number: Option<i64>| number.and_then(NonZeroI64::new);
        // These are about the answer, not the token.
        known.result_code = None;
        known.result_message = None;
        known.response_content = None;
        known.dpop_nonce = None;
        Self(Arc::new(Facts {
            subject: known.subject.take().map(Into::into),
            expires_at: nonzero(known.expires_at.take()),
            auth_time: nonzero(known.auth_time.take()),
            scopes: std::mem::take(&mut known.scopes).into_iter().collect(),
            properties: std::mem::take(&mut known.properties).into_iter().collect(),
            rest: Arc::new(known),
            update: update.map(Box::new),
            refuser: None,
            stale_since: None,
            complete,
            key: None,
        }))
    }

    /// The facts in the shape of `/auth/introspection`.
    pub(super) fn known(&self) -> IntrospectionResponse {
        let facts = &*self.0;
        let mut known = (*facts.rest).clone();
        known.subject = facts.subject.as_deref().map(Into::into);
        known.expires_at = facts.expires_at.map(NonZeroI64::get);
        known.auth_time = facts.auth_time.map(NonZeroI64::get);
        known.scopes = facts.scopes.iter().map(Into::into).collect();
        known.properties = facts.properties.iter().cloned().collect();
        known
    }

    /// These facts after an update. `None` if the answer lacks facts that are known and that the request did
    /// not remove, so that they are uncertain. If it adds scopes without their details, the result is
    /// incomplete.
    pub(crate) fn updated(
        &self,
        request: &TokenUpdateRequest,
        response: &TokenUpdateResponse,
    ) -> Option<Self> {
        let mut known = self.known();
        if response.scopes.is_empty() && !known.scopes.is_empty() && request.scopes.is_none() {
            return None;
        }
        let lost = response.properties.is_empty() && !known.properties.is_empty();
        if lost && request.properties.is_none() {
            return None;
        }
        let details = response.authorization_details.as_ref();
        let lost = details.is_none() && !self.authorization_details().is_empty();
        if lost && request.authorization_details.is_none() {
            return None;
        }
        let of = |details: &Scope, scope: &String| details.name.as_ref() == Some(scope);
        let known_of = |scope| known.scope_details.iter().any(|details| of(details, scope));
        let detailed = known.scope_details.is_empty() || response.scopes.iter().all(known_of);
        known.scope_details.retain(|it| response.scopes.iter().any(|scope| of(it, scope)));
        known.scopes.clone_from(&response.scopes);
        known.properties.clone_from(&response.properties);
        known.expires_at = response.access_token_expires_at.or(known.expires_at);
        known.authorization_details = response.authorization_details.clone();
        known.for_external_attachment |= response.for_external_attachment;
        let update = self.0.update.as_ref();
        let update = update.map(|_| TokenUpdateResponse { access_token: None, ..response.clone() });
        let complete = self.0.complete && detailed;
        Some(Self::new(known, update, complete).with(|facts| {
            facts.refuser.clone_from(&self.0.refuser);
            facts.key = self.0.key;
        }))
    }
}

impl From<&IntrospectionResponse> for TokenInfo {
    /// All facts.
    fn from(response: &IntrospectionResponse) -> Self {
        Self::new(response.clone(), None, true)
    }
}

impl From<&TokenUpdateResponse> for TokenInfo {
    /// Expiry, scopes, properties, authorization details and token type. The token itself is dropped.
    fn from(response: &TokenUpdateResponse) -> Self {
        let known = IntrospectionResponse {
            expires_at: response.access_token_expires_at,
            scopes: response.scopes.clone(),
            properties: response.properties.clone(),
            authorization_details: response.authorization_details.clone(),
            for_external_attachment: response.for_external_attachment,
            ..IntrospectionResponse::default()
        };
        let update = TokenUpdateResponse { access_token: None, ..response.clone() };
        Self::new(known, Some(update), true)
    }
}

/// Facts of a token from the answer that issued it. Only `/auth/introspection` has `acr`, `auth_time` and
/// the certificate that the token is bound to.
macro_rules! issued {
    ($response:ty, $expires_at:ident; $($same:ident)*) => {
        impl From<&$response> for TokenInfo {
            /// The facts of the answer. It lacks the token's binding and the user's authentication.
            fn from(response: &$response) -> Self {
                let known = IntrospectionResponse {
                    expires_at: response.$expires_at,
                    client_id: response.client_id,
                    subject: response.subject.clone(),
                    scopes: response.scopes.clone(),
                    properties: response.properties.clone(),
                    authorization_details: response.authorization_details.clone(),
                    $($same: response.$same.clone(),)*
                    ..IntrospectionResponse::default()
                };
                Self::new(known, None, false)
            }
        }
    };
}

issued!(TokenResponse, access_token_expires_at; client_id_alias client_id_alias_used
    client_entity_id client_entity_id_used resources access_token_resources grant_type grant_id
    service_attributes client_attributes metadata_document_location metadata_document_used);
issued!(TokenIssueResponse, access_token_expires_at; client_id_alias client_id_alias_used
    client_entity_id client_entity_id_used access_token_resources service_attributes
    client_attributes metadata_document_location metadata_document_used);
issued!(TokenCreateResponse, expires_at; grant_type for_external_attachment);
