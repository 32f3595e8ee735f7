//! Token requests that wait for a decision.

use super::binding::Binding;
use crate::api::GrantType;

/// What a token request that needs a decision asks for.
#[derive(Clone)]
pub(super) struct Ticket {
    pub(super) grant_type: GrantType,
    pub(super) scopes: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) alias_used: bool,
    /// Life of the tokens (s), if the token request gives one.
    pub(super) access_token_duration: Option<i64>,
    pub(super) refresh_token_duration: Option<i64>,
    pub(super) binding: Binding,
}
