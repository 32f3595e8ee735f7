//! What processes share of tokens, as the store of one of them sees it.

// The model has one process, and so no contact that is lost: these are not among what it checks.
use core::sync::atomic::{AtomicU64, Ordering};
use std::{pin::Pin, time::Duration};

use super::{
    key::{Binding, Key},
    trust::Trust,
};
use crate::{
    api::Secret,
    clock::{Moment, span},
    token::TokenInfo,
};

/// What the tier says.
pub(crate) type Reply<'t, T> = Pin<Box<dyn Future<Output = T> + Send + 't>>;

/// A tier of the cache that processes share. It makes calls fewer and invalidations earlier, and is never waited
/// for longer than a bound of its own: what it cannot tell, Authlete is asked.
pub(crate) trait Tier: Send + Sync {
    /// What is shared of a token that is presented with this binding; `None` if the tier cannot be asked.
    fn load<'t>(
        &'t self,
        key: &'t Key,
        token: &'t Secret,
        binding: Binding,
    ) -> Reply<'t, Option<Loaded>>;

    /// Shares the facts of a good token that Authlete was asked about after the load with this stamp.
    fn share<'t>(
        &'t self,
        key: &'t Key,
        token: &'t Secret,
        facts: SharedFacts<'t>,
        stamp: &'t Stamp,
    ) -> Reply<'t, Shared>;

    /// Whether this process is the one that does this about a token for a while; also if the tier cannot be
    /// asked.
    fn claim<'t>(&'t self, key: &'t Key, purpose: Claim) -> Reply<'t, bool>;

    /// For how long any process knows a token, of which this one does for so long; `None` if the tier cannot be
    /// asked. That is kept for `keep` from now on.
    fn first_seen<'t>(
        &'t self,
        key: &'t Key,
        sight: Sight,
        known: Duration,
        keep: Duration,
    ) -> Reply<'t, Option<Duration>>;

    /// Invalidates a token in all processes. It is sent in the background.
    fn invalidate(&self, key: Key);

    /// Invalidates all tokens in all processes.
    fn invalidate_all(&self);

    /// Whether all that was invalidated before has reached the tier. Waits for a bounded time.
    fn reached<'t>(&'t self) -> Reply<'t, bool>;
}

/// What a load tells.
pub(crate) struct Loaded {
    pub(crate) stamp: Stamp,
    /// The facts of the token, and how long ago Authlete was asked for them.
    pub(crate) known: Option<(TokenInfo, Duration)>,
}

/// What was noted before Authlete is asked, so that an answer from before an invalidation is not shared.
#[derive(Clone)]
pub(crate) struct Stamp {
    pub(crate) generation: Vec<u8>,
    pub(crate) fence: Vec<u8>,
    /// By the tier's clock (ms since the epoch).
    pub(crate) time: u64,
}

/// What is shared of a good token.
#[derive(Clone, Copy)]
pub(crate) struct SharedFacts<'t> {
    pub(crate) token: &'t TokenInfo,
    pub(crate) binding: Binding,
    /// How long from the load on they can be used.
    pub(crate) max_age: Duration,
}

/// What became of sharing facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    Done,
    /// The token was invalidated since the load, or that was too long ago to tell.
    Invalidated,
    /// The tier cannot be asked.
    Unknown,
}

/// What one process does for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Revalidate,
    Extend,
    Rotate,
}

/// What is seen for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// A token, by whatever value.
    Token,
    /// One of its values.
    Value,
}

/// Whether this process hears of what others invalidate.
pub(crate) struct Contact {
    /// Of a [`Trust`]. Without a tier, it lasts for ever.
    until: AtomicU64,
    doubt: AtomicU64,
    lost: AtomicU64,
    over: AtomicU64,
    /// For how long (ms) what is in doubt is used.
    isolated_max_age: u64,
}

impl Contact {
    /// Without a tier: nothing is in doubt.
    pub(crate) fn unneeded() -> Self {
        Self { until: AtomicU64::new(u64::MAX), ..Self::none(Duration::ZERO) }
    }

    /// With a tier that was not heard of yet.
    pub(crate) fn none(isolated_max_age: Duration) -> Self {
        let Trust { until, doubt, lost, over } = Trust::NONE;
        let isolated_max_age = span(isolated_max_age);
        let [until, doubt, lost, over] = [until, doubt, lost, over].map(AtomicU64::new);
        Self { until, doubt, lost, over, isolated_max_age }
    }

    #[inline]
    pub(crate) fn lasts(&self, now: Moment) -> bool {
        now.monotonic < self.until.load(Ordering::Acquire)
    }

    /// All that was invalidated up to a moment has been applied. `until` is that moment, and how long it is
    /// enough.
    pub(crate) fn extend(&self, until: u64) {
        self.until.fetch_max(until, Ordering::AcqRel);
    }

    /// What was known up to now is in doubt. One at a time.
    pub(super) fn lose(&self, now: Moment) {
        let Trust { doubt, lost, over, .. } =
            self.trust().lose(now.monotonic, self.isolated_max_age);
        // In this order: who sees one of them sees those before it.
        self.over.fetch_max(over, Ordering::AcqRel);
        self.lost.fetch_max(lost, Ordering::AcqRel);
        self.doubt.fetch_max(doubt, Ordering::AcqRel);
    }

    fn trust(&self) -> Trust {
        // First: who renews the contact has set the doubt before.
        let until = self.until.load(Ordering::Acquire);
        let doubt = self.doubt.load(Ordering::Acquire);
        let lost = self.lost.load(Ordering::Acquire);
        Trust { until, doubt, lost, over: self.over.load(Ordering::Acquire) }
    }

    /// The end of the use of what was known since then, if it is in doubt.
    pub(super) fn end(&self, since: u64, now: Moment) -> Option<Moment> {
        let end = self.trust().end(since, now.monotonic, self.isolated_max_age);
        end.map(|monotonic| Moment { wall: u64::MAX, monotonic })
    }

    /// When something that is in doubt until then is asked about again, spread over that time by its key.
    pub(super) fn refresh(&self, key: &Key, end: Moment) -> u64 {
        end.monotonic.saturating_sub(key.part_of(self.isolated_max_age))
    }
}

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;

    fn at(monotonic: u64) -> Moment {
        Moment { wall: 0, monotonic }
    }

    fn contact() -> Contact {
        Contact::none(Duration::from_millis(50))
    }

    fn end(contact: &Contact, since: u64, now: u64) -> Option<u64> {
        contact.end(since, at(now)).map(|end| end.monotonic)
    }

    #[test]
    fn without_a_tier_nothing_is_in_doubt() {
        let contact = Contact::unneeded();
        assert!(contact.lasts(at(u64::MAX - 1)));
        assert_eq!(end(&contact, 0, u64::MAX - 1), None);
    }

    #[test]
    fn without_contact_facts_are_used_for_the_isolated_age_at_most() {
        let contact = contact();
        assert_eq!(end(&contact, 10, 20), Some(60));
        contact.extend(1000);
        assert_eq!(end(&contact, 10, 999), None);
        // From when the contact was lost on; newer ones from when they were decided on.
        assert_eq!(end(&contact, 10, 1000), Some(1050));
        assert_eq!(end(&contact, 1020, 1030), Some(1070));
        contact.extend(2000);
        assert_eq!(end(&contact, 10, 1030), None);
    }

    #[test]
    fn what_was_known_before_a_loss_stays_in_doubt() {
        let contact = contact();
        contact.extend(1000);
        contact.lose(at(500));
        assert_eq!(end(&contact, 499, 600), Some(550));
        // In the same ms it may have been before the loss.
        assert_eq!(end(&contact, 500, 600), Some(550));
        assert_eq!(end(&contact, 501, 600), None);
    }

    #[test]
    fn what_is_in_doubt_does_not_come_back() {
        let contact = contact();
        contact.extend(100);
        // The contact had been lost before the records were.
        contact.lose(at(500));
        contact.extend(1000);
        assert_eq!(end(&contact, 10, 500), Some(150));
        assert_eq!(end(&contact, 490, 500), Some(540));
        // Another loss within the time of doubt makes that no longer,
        contact.lose(at(510));
        assert_eq!(end(&contact, 10, 520), Some(150));
        assert_eq!(end(&contact, 505, 520), Some(555));
        // nor one after it.
        contact.lose(at(700));
        assert_eq!(end(&contact, 510, 700), Some(0));
        assert_eq!(end(&contact, 511, 700), Some(750));
    }
}
