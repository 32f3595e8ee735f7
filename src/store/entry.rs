//! Entries of the cache.

use std::sync::Arc;

use super::key::{Binding, Thumbprint};
use crate::{clock::Moment, rejection::Rejection, token::TokenInfo, verdict::Verdict};

/// The facts of a good token.
#[derive(Clone)]
pub(super) struct PositiveEntry {
    pub(super) token: TokenInfo,
    /// The end of its age.
    pub(super) until: Moment,
    /// The key by whose proof the token was presented.
    pub(super) proof_key: Option<Arc<Thumbprint>>,
    pub(super) weight: u32,
    /// By the monotonic clock (ms): what invalidated the token before this moment, its facts know of.
    pub(super) since: u64,
    /// The epoch of its bucket when it was made.
    pub(super) epoch: u64,
}

/// Why a token is refused.
#[derive(Clone)]
pub(super) struct NegativeEntry {
    pub(super) rejection: Rejection,
    pub(super) until: Moment,
    /// `None` for a bearer without a certificate.
    pub(super) binding: Option<Arc<Binding>>,
    /// The epoch of its bucket when it was kept.
    pub(super) epoch: u64,
}

/// What is known of a token.
pub(crate) struct CacheHit {
    pub(crate) verdict: Verdict,
    /// Whether the end of its age is so near that Authlete is to be asked again.
    pub(crate) needs_refresh: bool,
}

impl PositiveEntry {
    /// A certificate that the token may be bound to is not looked at: that is among the facts.
    #[inline]
    pub(super) fn is_of(&self, binding: Binding) -> bool {
        self.proof_key.as_deref() == binding.key.as_ref()
    }

    pub(super) fn binding(&self) -> Binding {
        Binding { key: self.proof_key.as_deref().copied(), certificate: None }
    }

    /// A copy with a count of references of its own.
    pub(super) fn deep_clone(&self) -> Self {
        Self { token: self.token.deep_clone(), ..self.clone() }
    }

    #[inline]
    pub(super) fn is_valid(&self, now: Moment) -> bool {
        !self.until.is_past(now) && !self.token.is_past(now.wall)
    }
}
