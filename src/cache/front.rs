//! What is asked for again and again, in front of the cache: a look-up without a lock.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;

use super::{Key, memory::Good};

/// How many tokens can be at hand. Those whose keys fall on the same slot take turns.
const SLOTS: usize = 1024;

/// A copy of a part of the cache. What is forgotten there is forgotten here, whatever happens at the same
/// time: a copy is only good if its token has not been forgotten since it was looked up.
pub(crate) struct Front(Box<[Slot]>);

/// In a cache line of its own, so that its writers do not disturb the readers of others.
#[derive(Default)]
#[repr(align(64))]
struct Slot {
    hot: ArcSwapOption<Hot>,
    /// Raised when a token of this slot is forgotten.
    epoch: AtomicU64,
    /// Which token was looked up last: one that comes twice in a row is worth its place.
    last: AtomicU64,
}

struct Hot {
    key: Key,
    entry: Good,
    epoch: u64,
}

/// Taken before a token is looked up.
pub(crate) struct Ticket(u64);

impl Front {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| Slot::default()).collect())
    }

    fn slot(&self, key: &Key) -> &Slot {
        &self.0[key.lot(SLOTS)]
    }

    /// What `read` makes of what is at hand of a token.
    pub(crate) fn get<T>(&self, key: &Key, read: impl FnOnce(&Good) -> Option<T>) -> Option<T> {
        let slot = self.slot(key);
        let hot = slot.hot.load();
        let hot = hot.as_ref().filter(|hot| hot.key == *key)?;
        // Looked at after the copy: if the token was forgotten before, that is seen.
        let valid = hot.epoch == slot.epoch.load(Ordering::Acquire);
        valid.then(|| read(&hot.entry)).flatten()
    }

    pub(crate) fn ticket(&self, key: &Key) -> Ticket {
        Ticket(self.slot(key).epoch.load(Ordering::Acquire))
    }

    /// Takes a copy of what was found after the ticket was taken, if the token is in use.
    pub(crate) fn offer(&self, ticket: Ticket, key: &Key, entry: Good) {
        let slot = self.slot(key);
        if slot.last.load(Ordering::Relaxed) == key.prefix() {
            slot.hot.store(Some(Arc::new(Hot { key: *key, entry, epoch: ticket.0 })));
        } else {
            slot.last.store(key.prefix(), Ordering::Relaxed);
        }
    }

    /// Called after a token was removed from the cache: whoever took a ticket before cannot use it.
    pub(crate) fn forget(&self, key: &Key) {
        self.slot(key).forget();
    }

    pub(crate) fn forget_all(&self) {
        self.0.iter().for_each(Slot::forget);
    }
}

impl Slot {
    fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.hot.store(None);
    }
}
