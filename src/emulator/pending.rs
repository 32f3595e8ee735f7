//! Token requests that await a decision of the authorization server.

use super::binding::TokenBinding;
use crate::api::GrantType;

/// What is kept of a token request under its ticket.
#[derive(Clone)]
pub(super) struct PendingTokenRequest {
    pub(super) grant_type: GrantType,
    pub(super) scopes: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) alias_used: bool,
    /// Life of the tokens (s), if the token request gives one.
    pub(super) access_token_duration: Option<i64>,
    pub(super) refresh_token_duration: Option<i64>,
    pub(super) binding: TokenBinding,
}
