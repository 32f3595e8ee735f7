//! Epochs: how often what is known was invalidated.

use std::sync::atomic::{AtomicU64, Ordering};

use super::key::Key;

/// Into how many shards keys fall.
const SHARDS: usize = 1024;

/// The epochs of a store. They are raised with the store's lock held, and read without it.
///
/// What outlives the call that brought it goes by them: whoever keeps something notes an epoch before it
/// is looked up, and uses it only while that epoch is the same. An invalidation of another token of the
/// same shard leads to a second look.
pub(crate) struct Epochs {
    shards: Box<[Shard]>,
    everything: AtomicU64,
    issues: AtomicU64,
}

#[derive(Default)]
struct Shard {
    invalidations: AtomicU64,
    /// Those, and replacements of entries by newer ones.
    changes: AtomicU64,
}

/// The shard of a key.
pub(crate) fn shard(key: &Key) -> u16 {
    // Less than `SHARDS`, so that it fits.
    (key.prefix() % SHARDS as u64) as u16
}

fn raise(epoch: &AtomicU64) {
    epoch.fetch_add(1, Ordering::AcqRel);
}

impl Epochs {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards, everything: AtomicU64::new(0), issues: AtomicU64::new(0) }
    }

    fn of(&self, key: &Key) -> &Shard {
        &self.shards[usize::from(shard(key))]
    }

    /// What was derived from the facts of a token of this shard goes by this one, such as a delegated token.
    pub(crate) fn of_shard(&self, shard: u16) -> u64 {
        self.shards[usize::from(shard)].invalidations.load(Ordering::Acquire)
    }

    /// A copy of an entry goes by this one.
    #[inline]
    pub(super) fn of_copies(&self, key: &Key) -> u64 {
        self.of(key).changes.load(Ordering::Acquire)
    }

    /// An entry goes by this one, which is removed by itself when its token is invalidated.
    pub(super) fn of_everything(&self) -> u64 {
        self.everything.load(Ordering::Acquire)
    }

    /// What an answer tells that issues a token goes by this one: whether the token is one of those that
    /// are revoked meanwhile is not known before.
    pub(super) fn of_issues(&self) -> u64 {
        self.issues.load(Ordering::Acquire)
    }

    pub(super) fn replace(&self, key: &Key) {
        raise(&self.of(key).changes);
    }

    pub(super) fn invalidate(&self, key: &Key) {
        raise(&self.of(key).changes);
        raise(&self.of(key).invalidations);
    }

    pub(super) fn invalidate_issues(&self) {
        raise(&self.issues);
    }

    pub(super) fn invalidate_everything(&self) {
        raise(&self.everything);
        raise(&self.issues);
        for shard in &self.shards {
            raise(&shard.changes);
            raise(&shard.invalidations);
        }
    }
}
