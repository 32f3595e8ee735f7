//! The facts of a token, as processes share them.

use serde::{Deserialize, Serialize};

use super::TokenInfo;
use crate::api::{IntrospectionResponse, TokenUpdateResponse};

/// All facts of a token that is known as a whole.
#[derive(Serialize, Deserialize)]
pub(crate) struct SharedToken {
    known: IntrospectionResponse,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update: Option<TokenUpdateResponse>,
}

impl From<&TokenInfo> for SharedToken {
    fn from(token: &TokenInfo) -> Self {
        Self { known: token.known(), update: token.0.update.as_deref().cloned() }
    }
}

impl From<SharedToken> for TokenInfo {
    fn from(shared: SharedToken) -> Self {
        Self::new(shared.known, shared.update, true)
    }
}
