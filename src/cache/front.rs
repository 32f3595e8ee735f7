//! What is asked for again and again, in front of the cache: a look-up without a lock and without a
//! digest.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use siphasher::sip128::SipHasher24;

use super::{entry::Good, key::Key};

/// How many tokens can be at hand. Those whose tags fall on the same slot take turns.
const SLOTS: usize = 1024;

/// How many copies of an entry there can be, so that threads do not have to take turns counting who uses
/// it.
const COPIES: usize = 4;

/// Into how many lots keys fall, by which tokens are forgotten.
const LOTS: usize = 1024;

/// A copy of a part of the cache. What is forgotten there is forgotten here, whatever happens at the same
/// time: a copy is only good if no token of its lot has been forgotten since it was looked up.
pub(crate) struct Front {
    tagger: SipHasher24,
    slots: Box<[Slot]>,
    forgotten: Box<[Forgotten]>,
}

/// Names a token in this process, at less cost than its [`Key`]. SipHash with a random key of its own:
/// nobody can find two tokens with the same tag, since no tag can be seen from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u64, u64);

/// In a cache line of its own, so that its writers do not disturb the readers of others.
#[derive(Default)]
#[repr(align(64))]
struct Slot {
    hot: ArcSwapOption<Hot>,
    /// Which token was looked up last: one that comes twice in a row is worth its place.
    last: AtomicU64,
}

/// How often tokens of a lot were forgotten.
#[derive(Default)]
#[repr(align(64))]
struct Forgotten(AtomicU64);

struct Hot {
    tag: Tag,
    key: Key,
    copies: [OnceLock<Good>; COPIES],
    /// How often its lot had been forgotten when it was looked up.
    forgotten: u64,
}

/// Taken before a token is looked up.
pub(crate) struct Ticket(u64);

impl Front {
    pub(crate) fn new() -> Self {
        // The standard library's source of randomness.
        let random = || RandomState::new().hash_one(0);
        Self {
            tagger: SipHasher24::new_with_keys(random(), random()),
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            forgotten: (0..LOTS).map(|_| Forgotten::default()).collect(),
        }
    }

    #[inline]
    pub(crate) fn tag(&self, token: &str) -> Tag {
        let hash = self.tagger.hash(token.as_bytes());
        Tag(hash.h1, hash.h2)
    }

    #[inline]
    fn slot(&self, tag: Tag) -> &Slot {
        &self.slots[tag.0 as usize % SLOTS]
    }

    #[inline]
    fn forgotten(&self, key: &Key) -> &AtomicU64 {
        &self.forgotten[key.lot(LOTS)].0
    }

    /// What `read` makes of what is at hand of a token.
    #[inline]
    pub(crate) fn get<T>(
        &self,
        tag: Tag,
        read: impl FnOnce(&Key, &Good) -> Option<T>,
    ) -> Option<T> {
        let hot = self.slot(tag).hot.load();
        let hot = hot.as_ref().filter(|hot| hot.tag == tag)?;
        // Looked at after the copy: if the token was forgotten before, that is seen.
        let valid = hot.forgotten == self.forgotten(&hot.key).load(Ordering::Acquire);
        if !valid {
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

    pub(crate) fn ticket(&self, key: &Key) -> Ticket {
        Ticket(self.forgotten(key).load(Ordering::Acquire))
    }

    /// Takes a copy of what was found after the ticket was taken, if the token is in use.
    pub(crate) fn offer(&self, ticket: Ticket, tag: Tag, key: &Key, entry: Good) {
        let slot = self.slot(tag);
        if slot.last.load(Ordering::Relaxed) == tag.1 {
            let copies = <[OnceLock<Good>; COPIES]>::default();
            let _ = copies[place()].set(entry);
            let hot = Hot { tag, key: *key, copies, forgotten: ticket.0 };
            slot.hot.store(Some(Arc::new(hot)));
        } else {
            slot.last.store(tag.1, Ordering::Relaxed);
        }
    }

    /// Called after a token was removed from the cache: whoever took a ticket before cannot use it.
    pub(crate) fn forget(&self, key: &Key) {
        self.forgotten(key).fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn forget_all(&self) {
        for Forgotten(times) in &self.forgotten {
            times.fetch_add(1, Ordering::AcqRel);
        }
        self.slots.iter().for_each(|slot| slot.hot.store(None));
    }
}

/// Which of the copies this thread uses.
fn place() -> usize {
    // Nothing is told by it, so that it is none of what a model looks at.
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
        let (one, other) = (Front::new(), Front::new());
        let tags = ["", "token", "token2", "tokem"].map(|token| one.tag(token));
        for (index, tag) in tags.iter().enumerate() {
            assert!(!tags[..index].contains(tag), "{index}");
        }
        assert!(one.tag("token") == tags[1] && other.tag("token") != tags[1]);
    }
}
