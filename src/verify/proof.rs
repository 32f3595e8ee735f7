//! The verdict on a token that comes with a DPoP proof.

use std::sync::Arc;

use super::{Freshness, Resolved, Verifier};
use crate::{
    introspect::Presented,
    proof::{Proof, Prover},
    resilience::Deadline,
    verdict,
};

impl Verifier {
    /// [`resolve`](Self::resolve) for a proof that was verified: it is used up, whether or not Authlete is
    /// asked. `used`: it was used up before, for this request. `foreign_nonces`: proofs can hold nonces that
    /// only Authlete can verify.
    pub(crate) async fn resolve_with_proof(
        self: Arc<Self>,
        prover: Arc<Prover>,
        proof: Proof,
        presented: Arc<Presented>,
        mut freshness: Freshness,
        used: bool,
        foreign_nonces: bool,
    ) -> Resolved {
        let deadline = Deadline::after(self.deadline);
        // Only Authlete knows which of its nonces are good.
        let foreign = !prover.has_nonces() && (proof.nonce.is_some() || foreign_nonces);
        freshness.fresh |= foreign || prover.settings.verify_remotely;
        let Presented { key, binding, .. } = *presented;
        let lease = self.store.lease(key);
        let (_, hit) =
            self.store.look_up(presented.token().expose(), binding, self.clock.recently());
        let resolved = match hit.filter(|_| !freshness.fresh) {
            Some(hit) => hit.into(),
            None => self.clone().resolve(presented, freshness).await,
        };
        if used || resolved.verdict.is_err() {
            return resolved;
        }
        let used_up = deadline.wait(prover.use_up(&proof, &self.clock, &self.log)).await;
        if let Err(rejection) = used_up.unwrap_or_else(|| Err(verdict::unknown())) {
            return Resolved::known(Err(rejection));
        }
        // That takes time if proofs are shared with other processes.
        if lease.is_void() {
            let known = self.store.get(&key, binding);
            return Resolved::known(known.unwrap_or_else(|| Err(verdict::unknown())));
        }
        resolved
    }
}
