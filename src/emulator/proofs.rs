//! State of DPoP: the nonce that proofs must contain, and the proofs that were used.

use std::collections::HashMap;

use super::{
    dpop::{LEEWAY, VerifiedProof},
    store::random,
};

/// A proof is refused (RFC 9449 §5, §8).
pub(super) struct ProofError {
    pub(super) error: &'static str,
    pub(super) message: &'static str,
}

impl ProofError {
    pub(super) fn invalid(message: &'static str) -> Self {
        Self { error: "invalid_dpop_proof", message }
    }
}

#[derive(Default)]
pub(super) struct ProofRegistry {
    nonce: Option<String>,
    /// The nonce before `nonce`. One more proof may contain it.
    previous: Option<String>,
    /// `iat` (s since the epoch) of used proofs, by key thumbprint and `jti`.
    used: HashMap<(String, String), f64>,
}

impl ProofRegistry {
    pub(super) fn new(nonce: Option<String>) -> Self {
        Self { nonce, ..Self::default() }
    }

    /// The nonce that proofs must contain.
    pub(super) fn nonce(&self) -> Option<String> {
        self.nonce.clone()
    }

    pub(super) fn set_nonce(&mut self, nonce: Option<String>) {
        if nonce != self.nonce {
            self.previous = self.nonce.take().filter(|_| nonce.is_some());
            self.nonce = nonce;
        }
    }

    /// Generates a nonce if there is none.
    pub(super) fn require_nonce(&mut self) {
        self.nonce.get_or_insert_with(random);
    }

    /// Checks nonce and replay, and marks the proof as used.
    pub(super) fn accept(&mut self, proof: VerifiedProof, now: f64) -> Result<(), ProofError> {
        let is_other_nonce = self.nonce.is_some() && proof.nonce != self.nonce;
        if is_other_nonce && (self.previous.is_none() || proof.nonce != self.previous) {
            let message = "The DPoP proof takes another nonce.";
            return Err(ProofError { error: "use_dpop_nonce", message });
        }
        // Older proofs are refused by their `iat`.
        self.used.retain(|_, made_at| now - *made_at <= LEEWAY);
        if self.used.insert((proof.thumbprint, proof.id), proof.made_at).is_some() {
            return Err(ProofError::invalid("The DPoP proof was used before."));
        }
        if is_other_nonce {
            self.previous = None;
        }
        Ok(())
    }
}
