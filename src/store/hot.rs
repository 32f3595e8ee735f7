//! The hot cache: copies of the entries that are used most, found without a lock and without the digest of
//! a [`Key`].

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use siphasher::sip128::SipHasher24;

use super::{entry::PositiveEntry, epoch::Epochs, key::Key};

/// Not more slots, whatever the limits: of 64 bytes each, 4 MiB, besides the entries that are in them.
const MAX_SLOTS: u64 = 1 << 16;

/// How many copies of an entry there are at most, so that threads need not change the same count of
/// references.
const COPIES: usize = 4;

/// Copies of entries, one in each slot. A copy is good as long as the epoch of its shard is the one that
/// was noted before the entry was looked up.
pub(super) struct HotCache {
    tagger: SipHasher24,
    slots: Box<[Slot]>,
    epochs: Arc<Epochs>,
}

/// Names a token in this process, at less cost than its [`Key`]. SipHash with a random key of its own:
/// nobody can find two tokens with the same tag, since no tag can be seen from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u64, u64);

/// In a cache line of its own, so that its writers do not disturb the readers of others.
#[derive(Default)]
#[repr(align(64))]
struct Slot {
    entry: ArcSwapOption<HotEntry>,
    /// A part of the tag that was looked up last: a token that comes twice in a row gets the slot.
    last: AtomicU64,
}

struct HotEntry {
    tag: Tag,
    key: Key,
    /// Of its shard, before the entry was looked up.
    epoch: u64,
    copies: [OnceLock<PositiveEntry>; COPIES],
}

impl HotCache {
    /// One for so many tokens at most.
    pub(super) fn new(max_entries: u64, epochs: Arc<Epochs>) -> Self {
        // The standard library's source of randomness.
        let random = || RandomState::new().hash_one(0);
        let slots = max_entries.clamp(1, MAX_SLOTS).next_power_of_two();
        Self {
            tagger: SipHasher24::new_with_keys(random(), random()),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            epochs,
        }
    }

    #[inline]
    pub(super) fn tag(&self, token: impl AsRef<[u8]>) -> Tag {
        let hash = self.tagger.hash(token.as_ref());
        Tag(hash.h1, hash.h2)
    }

    #[inline]
    fn slot(&self, tag: Tag) -> &Slot {
        // Their number is a power of two.
        &self.slots[tag.0 as usize & (self.slots.len() - 1)]
    }

    /// What `read` makes of the entry.
    #[inline]
    pub(super) fn get<T>(
        &self,
        tag: Tag,
        read: impl FnOnce(&Key, &PositiveEntry) -> Option<T>,
    ) -> Option<T> {
        let hot = self.slot(tag).entry.load();
        let hot = hot.as_ref().filter(|hot| hot.tag == tag)?;
        // Read after the copy: an invalidation before that is seen.
        if hot.epoch != self.epochs.of_copies(&hot.key) {
            return None;
        }
        let own = &hot.copies[place()];
        let entry = match own.get() {
            Some(entry) => entry,
            None => {
                let other = hot.copies.iter().find_map(OnceLock::get)?;
                own.get_or_init(|| other.deep_clone())
            }
        };
        read(&hot.key, entry)
    }

    /// Takes a copy of an entry that was looked up after the epoch was noted, if the token is in use.
    pub(super) fn offer(&self, epoch: u64, tag: Tag, key: &Key, entry: PositiveEntry) {
        let slot = self.slot(tag);
        if slot.last.load(Ordering::Relaxed) == tag.1 {
            let copies = <[OnceLock<PositiveEntry>; COPIES]>::default();
            let _ = copies[place()].set(entry);
            slot.entry.store(Some(Arc::new(HotEntry { tag, key: *key, epoch, copies })));
        } else {
            slot.last.store(tag.1, Ordering::Relaxed);
        }
    }

    /// Frees what the epochs have made worthless.
    pub(super) fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.entry.store(None));
    }
}

/// Which of the copies this thread uses.
fn place() -> usize {
    // It orders nothing, so that the model does not look at it.
    static THREADS: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);
    thread_local! {
        static PLACE: usize = THREADS.fetch_add(1, core::sync::atomic::Ordering::Relaxed) % COPIES;
    }
    PLACE.with(|place| *place)
}

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;

    #[test]
    fn tags_differ_by_token_and_nobody_can_foretell_them() {
        let new = || HotCache::new(1, Arc::new(Epochs::new()));
        let (one, other) = (new(), new());
        let tags = ["", "token", "token2", "tokem"].map(|token| one.tag(token));
        for (index, tag) in tags.iter().enumerate() {
            assert!(!tags[..index].contains(tag), "{index}");
        }
        assert!(one.tag("token") == tags[1] && other.tag("token") != tags[1]);
    }

    #[test]
    fn the_number_of_slots_follows_the_limits_up_to_a_bound() {
        let slots = |max| HotCache::new(max, Arc::new(Epochs::new())).slots.len() as u64;
        assert_eq!([0, 1, 1000, u64::MAX].map(slots), [1, 1, 1024, MAX_SLOTS]);
    }
}
