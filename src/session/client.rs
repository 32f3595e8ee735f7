//! The client that the tokens of sessions were issued to: its requests at the token endpoint.

use crate::api::{Error, Secret, TokenRequest, TokenResponse};

/// How the client is authenticated at the token endpoint.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: Secret,
    /// By `client_secret_post` rather than `client_secret_basic`.
    pub(super) post: bool,
}

impl Client {
    /// A request for new tokens by this refresh token (RFC 6749 §6).
    pub(super) fn refresh(&self, refresh_token: &Secret) -> TokenRequest {
        let Self { id, secret, post } = self;
        let mut pairs =
            vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        if *post {
            pairs.extend([("client_id", id.as_str()), ("client_secret", secret.expose())]);
        }
        // Serializing pairs of strings does not fail.
        let form = serde_html_form::to_string(pairs).unwrap_or_default();
        let request = TokenRequest::new().parameters(form);
        if *post { request } else { request.client_id(id).client_secret(secret) }
    }
}

/// Whether Authlete may have used up the refresh token, although no answer with new tokens arrived.
pub(super) fn may_have_taken_effect(error: &Error) -> bool {
    !(error.is_unsent() || error.is_turned_away() || error.is_our_fault())
}

/// Whether the refresh token is invalid, expired or revoked (RFC 6749 §5.2).
pub(super) fn is_invalid_grant(response: &TokenResponse) -> bool {
    let content = response.response_content.as_ref().map_or("", Secret::expose);
    let body: serde_json::Value = serde_json::from_str(content).unwrap_or_default();
    body["error"] == "invalid_grant"
}
