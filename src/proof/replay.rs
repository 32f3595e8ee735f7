//! Every proof is good for one request.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    future::ready,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

/// In so many parts, each with a lock of its own.
const PARTS: usize = 16;

/// Names a proof: a digest of its key's thumbprint, its `jti` and its `htu`, so that nobody can use up
/// the `jti` of somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProofId(pub(crate) [u8; 32]);

impl ProofId {
    /// The digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ProofId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofId")
    }
}

/// Whether a proof is used for the first time (RFC 9449 §11.1), as a [`ReplayStore`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofUse {
    /// It was not known, and now is: the request may go on.
    First,
    /// It was known: this is a replay. The request is refused with 401.
    Replay,
    /// Nothing can be said: there is no room, or the store cannot be reached. The request is refused
    /// with 503.
    Unknown,
}

/// The future of [`ReplayStore::record_use`].
pub type ProofUseFuture<'s> = Pin<Box<dyn Future<Output = ProofUse> + Send + 's>>;

/// Records which proofs were used, so that none is used twice (RFC 9449 §11.1). It is called only for proofs
/// that are otherwise valid, of valid tokens.
///
/// A store that several processes share must insert a proof atomically if it is absent, as `SET NX` does in
/// Redis, and must not lose it before its time, for example by evicting keys.
///
/// Clocks can be set back. The layer refuses proofs that had expired at the latest time at which it has accepted
/// any, so that a proof that a store has dropped cannot be used again in this process. Processes that share a
/// store do not know of each other's clocks: let the store keep proofs longer by as much as those may be set back.
pub trait ReplayStore: Send + Sync + 'static {
    /// Records the use of a proof until this time, and tells whether it is the first. Both times are by the
    /// clock of the layer; a store with a clock of its own keeps it for their difference.
    fn record_use(&self, proof: ProofId, until: SystemTime, now: SystemTime) -> ProofUseFuture<'_>;
}

/// Records used proofs in the memory of this process. When it is full, it refuses new ones and forgets none
/// before its time.
#[derive(Debug)]
pub struct MemoryReplays {
    parts: Vec<Mutex<Part>>,
    room: usize,
}

#[derive(Debug, Default)]
struct Part {
    known: HashSet<ProofId>,
    ends: BTreeSet<(SystemTime, ProofId)>,
}

impl MemoryReplays {
    /// A store with room for about so many proofs. One takes some 150 bytes, for as long as it could be
    /// used.
    ///
    /// # Panics
    /// If there is room for none: every proof would be refused.
    #[must_use]
    #[track_caller]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "MemoryReplays::new takes room for at least one proof; got 0");
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { parts, room: capacity.div_ceil(PARTS) }
    }

    fn set(&self, proof: ProofId, until: SystemTime, now: SystemTime) -> ProofUse {
        let part = &self.parts[usize::from(proof.0[0]) % PARTS];
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        part.forget_before(now);
        if part.known.contains(&proof) {
            return ProofUse::Replay;
        }
        if part.known.len() >= self.room {
            return ProofUse::Unknown;
        }
        part.known.insert(proof);
        part.ends.insert((until, proof));
        ProofUse::First
    }
}

impl Part {
    fn forget_before(&mut self, now: SystemTime) {
        while let Some((until, proof)) = self.ends.first().copied().filter(|(at, _)| *at < now) {
            self.ends.remove(&(until, proof));
            self.known.remove(&proof);
        }
    }
}

impl Default for MemoryReplays {
    /// With room for 250 000 proofs: 2 000 requests a second, if proofs are good for 60 s either way.
    fn default() -> Self {
        Self::new(250_000)
    }
}

impl ReplayStore for MemoryReplays {
    fn record_use(&self, proof: ProofId, until: SystemTime, now: SystemTime) -> ProofUseFuture<'_> {
        Box::pin(ready(self.set(proof, until, now)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_store_refuses_and_forgets_nothing_before_its_time() {
        let store = MemoryReplays::new(16);
        let id = |number| ProofId([0, number, 0, 0].repeat(8).try_into().unwrap());
        assert_eq!(store.set(id(0), at(10), at(0)), ProofUse::First);
        for number in 1..=255 {
            assert_eq!(store.set(id(number), at(10), at(5)), ProofUse::Unknown);
        }
        assert_eq!(store.set(id(0), at(10), at(10)), ProofUse::Replay);
        assert_eq!(store.set(id(1), at(20), at(11)), ProofUse::First);
    }

    #[test]
    #[should_panic = "room for at least one proof"]
    fn a_store_without_room_is_a_mistake() {
        let _ = MemoryReplays::new(0);
    }

    #[test]
    fn of_many_at_once_one_is_new() {
        let store = MemoryReplays::default();
        let new = std::thread::scope(|scope| {
            let set = || store.set(ProofId([7; 32]), at(10), at(0)) == ProofUse::First;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(set)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|new| *new).count()
        });
        assert_eq!(new, 1);
    }
}
