//! The cache in this process's memory: positive entries, and in a pool of their own the negative ones.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use super::{
    entry::{CacheHit, NegativeEntry, PositiveEntry},
    epoch::Epochs,
    key::{Binding, Key},
    tier::Contact,
};
use crate::{
    cache::CachePolicy,
    clock::{Moment, span},
    rejection::Rejection,
    token::{Interner, TokenInfo},
    verdict::Verdict,
};

/// An entry weighs one for each started piece of this many bytes.
const BYTES_PER_WEIGHT: usize = 4096;

/// The entries of a [store](super::TokenStore), which alone changes them, with its lock held.
pub(super) struct Memory {
    policy: CachePolicy,
    /// How long before the end of its age an entry in use is revalidated (ms): at most a day.
    ahead: u64,
    positive: Cache<Key, PositiveEntry>,
    negative: Cache<Key, NegativeEntry>,
    interner: Interner,
    epochs: Arc<Epochs>,
    contact: Arc<Contact>,
}

impl Memory {
    pub(super) fn new(policy: CachePolicy, epochs: Arc<Epochs>, contact: Arc<Contact>) -> Self {
        // Moka frees the memory by its own clock; whether an entry is valid is looked at here, by ours.
        let life = |age: Duration| age.max(Duration::from_millis(1));
        Self {
            policy,
            ahead: span(policy.ahead()),
            positive: Cache::builder()
                .max_capacity(policy.max_entries)
                .weigher(|_, entry: &PositiveEntry| entry.weight)
                .time_to_live(life(policy.positive_age().saturating_add(policy.stale_if_error)))
                .build(),
            negative: Cache::builder()
                .max_capacity(policy.negative_max_entries)
                .time_to_live(life(policy.negative_max_age))
                .build(),
            interner: Interner::new(),
            epochs,
            contact,
        }
    }

    /// The verdict on a token that is presented with this binding, if it is still valid.
    pub(super) fn get(&self, key: &Key, binding: Binding, now: Moment) -> Option<Verdict> {
        let positive = self.valid(key, binding, now).map(|entry| Ok(entry.token));
        positive.or_else(|| self.rejection(key, binding, now).map(Err))
    }

    /// The facts of a good token, if they are still valid.
    pub(super) fn valid(&self, key: &Key, binding: Binding, now: Moment) -> Option<PositiveEntry> {
        let entry =
            self.positive(key).filter(|entry| entry.is_of(binding) && entry.is_valid(now))?;
        let doubted = self.doubted_until(&entry, now).is_some_and(|end| end.is_past(now));
        (!doubted).then_some(entry)
    }

    /// When an entry is not used any more that may have been invalidated unheard.
    pub(super) fn doubted_until(&self, entry: &PositiveEntry, now: Moment) -> Option<Moment> {
        self.contact.end(entry.since, now)
    }

    /// Why a token is refused, if that is still valid.
    pub(super) fn rejection(&self, key: &Key, binding: Binding, now: Moment) -> Option<Rejection> {
        let entry = self.negative.get(key)?;
        let same = entry.binding.as_deref().copied().unwrap_or_default() == binding;
        let current = entry.epoch == self.epochs.of_bucket(key);
        (same && current && !entry.until.is_past(now)).then_some(entry.rejection)
    }

    #[inline]
    pub(super) fn hit(&self, key: &Key, entry: &PositiveEntry, now: Moment) -> CacheHit {
        let needs_refresh = entry.until.is_past(now.after_millis(key.part_of(self.ahead)));
        CacheHit { verdict: Ok(entry.token.clone()), needs_refresh }
    }

    /// The facts of a good token whose age ended no longer ago than this, for when Authlete cannot be asked.
    pub(super) fn stale(
        &self,
        key: &Key,
        binding: Binding,
        up_to: Duration,
        now: Moment,
    ) -> Option<TokenInfo> {
        let entry = self.positive(key).filter(|entry| entry.is_of(binding))?;
        let doubted = self.doubted_until(&entry, now).map(|end| end.min(entry.until));
        let until = doubted.unwrap_or(entry.until);
        let over = until.after(up_to).is_past(now) || entry.token.is_past(now.wall);
        (!over).then(|| entry.token.stale(entry.until.wall))
    }

    /// Whether a verdict of that moment would still be kept and used.
    pub(super) fn is_new_enough(&self, decided: Moment, now: Moment) -> bool {
        let doubted = self.contact.end(decided.monotonic, now).is_some_and(|end| end.is_past(now));
        !doubted && !decided.after(self.policy.positive_age()).is_past(now)
    }

    /// How many positive entries there are, roughly.
    pub(super) fn len(&self) -> u64 {
        self.positive.entry_count()
    }

    fn positive(&self, key: &Key) -> Option<PositiveEntry> {
        self.positive.get(key).filter(|entry| entry.epoch == self.epochs.of_bucket(key))
    }

    /// An entry of facts that were decided at this moment, if they may be kept; what invalidates them counts
    /// since another one. It is made without the lock.
    pub(super) fn entry(
        &self,
        key: &Key,
        token: &TokenInfo,
        binding: Binding,
        decided: Moment,
        since: u64,
    ) -> Option<PositiveEntry> {
        let weight = u32::try_from(token.size().div_ceil(BYTES_PER_WEIGHT)).unwrap_or(u32::MAX);
        // A heavier one would push out all others before it falls out itself.
        let fits = u64::from(weight) <= self.policy.max_entries;
        let until = decided.after(self.policy.positive_age());
        let kept = fits && !until.is_past(decided) && !token.is_past(decided.wall);
        kept.then(|| PositiveEntry {
            token: token.clone().interned(&self.interner),
            until,
            proof_key: binding.key.map(Arc::new),
            weight,
            since,
            epoch: self.epochs.of_bucket(key),
        })
    }

    /// Keeps an entry in place of what was known; without one, removes that.
    pub(super) fn put(&self, key: Key, entry: Option<PositiveEntry>) {
        match entry {
            Some(entry) => self.positive.insert(key, entry),
            None => self.positive.invalidate(&key),
        }
        self.negative.invalidate(&key);
        self.epochs.end_copies(&key);
    }

    /// Keeps a rejection of that moment in place of what it contradicts.
    pub(super) fn put_rejection(
        &self,
        key: Key,
        binding: Binding,
        rejection: &Rejection,
        decided: Moment,
    ) {
        // A token is not bad because somebody presents it to whom it is not bound.
        let contradicts = self.positive.get(&key).is_none_or(|entry| {
            entry.is_of(binding) && entry.token.is_bound_to(binding.certificate.as_ref())
        });
        if contradicts {
            self.positive.invalidate(&key);
            self.epochs.end_copies(&key);
        }
        if self.policy.negative_max_age.is_zero() {
            self.negative.invalidate(&key);
            return;
        }
        let entry = NegativeEntry {
            rejection: rejection.clone(),
            until: decided.after(self.policy.negative_max_age),
            binding: (binding != Binding::BEARER).then(|| Arc::new(binding)),
            epoch: self.epochs.of_bucket(&key),
        };
        self.negative.insert(key, entry);
    }

    /// Moves an entry to the same or another key, with what has become of its facts, and keeps it no longer
    /// than it would have been kept. Without any facts, nothing is known under both keys.
    pub(super) fn update(
        &self,
        from: &Key,
        to: Key,
        now: Moment,
        change: impl FnOnce(&TokenInfo, Binding) -> Option<TokenInfo>,
    ) {
        let known = self.positive(from).filter(|entry| entry.is_valid(now));
        self.remove(from);
        self.remove(&to);
        let Some(known) = known else { return };
        let token = change(&known.token, known.binding());
        let entry =
            token.and_then(|token| self.entry(&to, &token, known.binding(), now, known.since));
        if let Some(entry) = entry {
            let until = known.until.min(entry.until);
            self.positive.insert(to, PositiveEntry { until, ..entry });
        }
    }

    /// Ends the age of an entry: it is used in an outage only.
    pub(super) fn outdate(&self, key: &Key, now: Moment) {
        let known = self.positive(key);
        let outdated = known.map(|known| PositiveEntry { until: known.until.min(now), ..known });
        self.put(*key, outdated);
    }

    pub(super) fn remove(&self, key: &Key) {
        self.put(*key, None);
    }

    /// The rest of the time for which facts can be kept that were decided at this moment.
    pub(super) fn left(&self, decided: Moment, now: Moment) -> Duration {
        self.policy.positive_age().saturating_sub(decided.elapsed(now))
    }

    /// Whether facts that were decided at this moment are to be asked for again soon.
    pub(super) fn is_due(&self, decided: Moment, now: Moment) -> bool {
        decided.after(self.policy.positive_age()).is_past(now.after_millis(self.ahead))
    }

    /// Frees what the epochs of buckets have made worthless.
    pub(super) fn clear(&self) {
        self.positive.invalidate_all();
        self.negative.invalidate_all();
        self.interner.clear();
    }
}
