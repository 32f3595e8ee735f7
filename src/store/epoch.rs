//! The one register of invalidations: leases for what is exact by token, epochs for the rest.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{
    key::{BUCKETS, Key},
    lease::{Lease, Leases},
};

/// Into how many shards keys fall: a multiple of the number of buckets.
const SHARDS: usize = 1024;

/// What tells whether a token was invalidated. It changes with the store's lock held, and is read without
/// that.
///
/// A call about a token takes its [`Lease`]. Where a lease would be too much, an epoch is noted before
/// something is looked up, and it is used only while that epoch is the same: by copies of entries, for which
/// a change of another token of the same shard leads to a second look; by entries, which are removed one by
/// one unless their whole bucket is invalidated; and by answers that issue a token, whose key is not known before.
pub(crate) struct Epochs {
    /// How often entries of a shard were removed or replaced.
    shards: Box<[AtomicU64]>,
    /// How often all entries of a bucket were invalidated.
    buckets: [AtomicU64; BUCKETS],
    issues: AtomicU64,
    leases: Mutex<Leases>,
}

fn raise(epoch: &AtomicU64) {
    epoch.fetch_add(1, Ordering::AcqRel);
}

impl Epochs {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            issues: AtomicU64::new(0),
            leases: Mutex::new(Leases::default()),
        }
    }

    /// The lease of a token: void once that is invalidated.
    pub(crate) fn lease(&self, key: Key) -> Arc<Lease> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).take(key)
    }

    #[inline]
    fn shard(&self, key: &Key) -> &AtomicU64 {
        // Less than `SHARDS`, so that it fits.
        &self.shards[(key.prefix() % SHARDS as u64) as usize]
    }

    /// A copy of an entry goes by this one.
    #[inline]
    pub(super) fn of_copies(&self, key: &Key) -> u64 {
        self.shard(key).load(Ordering::Acquire)
    }

    /// An entry goes by this one.
    pub(super) fn of_bucket(&self, key: &Key) -> u64 {
        self.buckets[key.bucket()].load(Ordering::Acquire)
    }

    /// An answer that issues a token goes by this one.
    pub(super) fn of_issues(&self) -> u64 {
        self.issues.load(Ordering::Acquire)
    }

    /// Ends the use of copies of an entry that was removed or replaced.
    pub(super) fn end_copies(&self, key: &Key) {
        raise(self.shard(key));
    }

    /// Ends the use of all copies, but not of the entries.
    #[cfg(feature = "redis")]
    pub(super) fn end_all_copies(&self) {
        self.shards.iter().for_each(raise);
    }

    pub(super) fn end_lease(&self, key: &Key) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).end(key);
    }

    pub(super) fn invalidate_issues(&self) {
        raise(&self.issues);
    }

    /// Invalidates all tokens of these buckets.
    pub(super) fn invalidate(&self, buckets: impl Fn(usize) -> bool) {
        let raised = (0..BUCKETS).filter(|bucket| buckets(*bucket));
        raised.for_each(|bucket| raise(&self.buckets[bucket]));
        raise(&self.issues);
        // A shard has keys of one bucket.
        let shards = self.shards.iter().enumerate().filter(|(shard, _)| buckets(shard % BUCKETS));
        shards.for_each(|(_, shard)| raise(shard));
        // At last: who takes a lease from now on finds nothing from before.
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.end_where(|key| buckets(key.bucket()));
    }
}
