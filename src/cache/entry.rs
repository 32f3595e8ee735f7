//! Entries of the cache.

use std::sync::Arc;

use super::key::{Binding, Thumbprint};
use crate::{clock::Moment, rejection::Rejection, token::TokenInfo};

/// What is known of a good token.
#[derive(Clone)]
pub(super) struct Good {
    pub(super) token: TokenInfo,
    /// When Authlete has to be asked again.
    pub(super) until: Moment,
    /// The key by whose proof it was presented.
    pub(super) key: Option<Arc<Thumbprint>>,
    pub(super) weight: u32,
    pub(super) era: u32,
}

#[derive(Clone)]
pub(super) struct Bad {
    pub(super) rejection: Rejection,
    pub(super) until: Moment,
    /// None for a bearer without a certificate.
    pub(super) binding: Option<Arc<Binding>>,
    pub(super) era: u32,
}

/// What is known of a token.
pub(crate) struct Known {
    pub(crate) answer: Result<TokenInfo, Rejection>,
    /// Whether Authlete should be asked again soon.
    pub(crate) ends: bool,
}

impl Good {
    #[inline]
    pub(super) fn is_of(&self, binding: Binding) -> bool {
        self.key.as_deref() == binding.key.as_ref()
    }

    /// A copy that counts for itself who uses it.
    pub(super) fn deep_clone(&self) -> Self {
        Self { token: self.token.deep_clone(), ..self.clone() }
    }

    #[inline]
    pub(super) fn is_valid(&self, now: Moment) -> bool {
        !self.until.is_past(now) && !self.token.is_past(now.wall)
    }
}
