//! Leases: the right to keep and use what a call under way learns of a token.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use super::key::Key;

/// Taken before Authlete is asked about a token, and void once that is invalidated: what was learnt by
/// then is neither kept nor used. An invalidation of another token leaves it as it is.
///
/// Compare "Scaling Memcache at Facebook" (NSDI 2013), §3.2.1.
#[derive(Default)]
pub(crate) struct Lease(AtomicBool);

impl Lease {
    pub(crate) fn is_void(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Below this number, leases that nobody holds any more are not looked for.
const FEW: usize = 64;

/// The lease of each token about which a call is under way, or its outcome not used yet.
#[derive(Default)]
pub(super) struct Leases {
    by_key: HashMap<Key, Weak<Lease>>,
    /// Of how many the last purge left twice as many, which bounds the room of those nobody holds.
    purge_at: usize,
}

impl Leases {
    /// The lease of a token: all who hold it share it.
    pub(super) fn take(&mut self, key: Key) -> Arc<Lease> {
        if let Some(lease) = self.by_key.get(&key).and_then(Weak::upgrade) {
            return lease;
        }
        if self.by_key.len() >= self.purge_at {
            self.by_key.retain(|_, lease| lease.strong_count() > 0);
            self.purge_at = FEW.max(2 * self.by_key.len());
        }
        let lease = Arc::new(Lease::default());
        self.by_key.insert(key, Arc::downgrade(&lease));
        lease
    }

    pub(super) fn end(&mut self, key: &Key) {
        let lease = self.by_key.remove(key).and_then(|lease| lease.upgrade());
        lease.iter().for_each(|lease| lease.end());
    }

    /// Ends the leases of these tokens.
    pub(super) fn end_where(&mut self, of: impl Fn(&Key) -> bool) {
        let leases = self.by_key.extract_if(|key, _| of(key));
        leases.filter_map(|(_, lease)| lease.upgrade()).for_each(|lease| lease.end());
    }
}

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;
    use crate::store::KeySpace;

    #[test]
    fn a_lease_ends_with_its_token_alone() {
        let keys = KeySpace::new(&[0; 32], "a");
        let (mut leases, [one, two]) = (Leases::default(), ["1", "2"].map(|it| keys.key(it)));
        let (first, other) = (leases.take(one), leases.take(two));
        assert!(Arc::ptr_eq(&first, &leases.take(one)));
        leases.end(&one);
        let second = leases.take(one);
        assert!(first.is_void() && !second.is_void() && !other.is_void());
        leases.end_where(|_| true);
        assert!(second.is_void() && other.is_void());
    }

    #[test]
    fn leases_that_nobody_holds_take_bounded_room() {
        let keys = KeySpace::new(&[0; 32], "a");
        let mut leases = Leases::default();
        let held: Vec<_> = (0..100).map(|it| leases.take(keys.key(it.to_string()))).collect();
        for it in 100..10_000 {
            leases.take(keys.key(it.to_string()));
        }
        assert!(leases.by_key.len() <= 2 * held.len() + FEW, "{}", leases.by_key.len());
    }
}
