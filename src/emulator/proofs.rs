//! What the emulator remembers of DPoP proofs: the nonce that they take, and which were used.

use std::collections::HashMap;

use super::{
    dpop::{LEEWAY, Proof},
    store::random,
};

/// Why a proof does not pass (RFC 9449 §5, §8).
pub(super) struct Unproven {
    pub(super) error: &'static str,
    pub(super) message: &'static str,
}

impl Unproven {
    pub(super) fn invalid(message: &'static str) -> Self {
        Self { error: "invalid_dpop_proof", message }
    }
}

#[derive(Default)]
pub(super) struct Proofs {
    nonce: Option<String>,
    /// The nonce before it, which is good for one more proof.
    previous: Option<String>,
    /// When the proofs that were used were made (s since the epoch), by key and `jti`.
    used: HashMap<(String, String), f64>,
}

impl Proofs {
    pub(super) fn new(nonce: Option<String>) -> Self {
        Self { nonce, ..Self::default() }
    }

    /// The nonce that proofs have to hold.
    pub(super) fn nonce(&self) -> Option<String> {
        self.nonce.clone()
    }

    pub(super) fn set_nonce(&mut self, nonce: Option<String>) {
        if nonce != self.nonce {
            self.previous = self.nonce.take().filter(|_| nonce.is_some());
            self.nonce = nonce;
        }
    }

    /// Makes a nonce up if there is none.
    pub(super) fn require_nonce(&mut self) {
        self.nonce.get_or_insert_with(random);
    }

    /// Uses a good proof, which can be done once.
    pub(super) fn accept(&mut self, proof: Proof, now: f64) -> Result<(), Unproven> {
        let is_late = self.nonce.is_some() && proof.nonce != self.nonce;
        if is_late && (self.previous.is_none() || proof.nonce != self.previous) {
            let message = "The DPoP proof takes another nonce.";
            return Err(Unproven { error: "use_dpop_nonce", message });
        }
        // What is older than this is refused anyway.
        self.used.retain(|_, made_at| now - *made_at <= LEEWAY);
        if self.used.insert((proof.thumbprint, proof.id), proof.made_at).is_some() {
            return Err(Unproven::invalid("The DPoP proof was used before."));
        }
        if is_late {
            self.previous = None;
        }
        Ok(())
    }
}
