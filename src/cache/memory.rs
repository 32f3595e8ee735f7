//! The cache in this process's memory: good tokens, and in a pool of their own the bad ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;

use super::{
    entry::{Bad, Good, Known},
    front::{Front, Tag},
    key::{Binding, Key, Thumbprint},
};
use crate::{
    clock::{Moment, span},
    rejection::Rejection,
    token::{Interner, TokenInfo},
};

/// An entry weighs one for each started piece of this many bytes.
const BYTES_PER_WEIGHT: usize = 4096;

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_age: Duration,
    pub(crate) max_entries: u64,
    pub(crate) negative_max_age: Duration,
    pub(crate) negative_max_entries: u64,
    /// For how long after its age a good answer is still kept, for outages, in which nobody may use it
    /// for longer.
    pub(crate) stale: Duration,
    /// How long before its age ends an answer in use is asked for again. Default: a tenth of the age.
    pub(crate) ahead: Option<Duration>,
}

pub(crate) struct MemoryCache {
    limits: Limits,
    /// How long before its age ends an answer in use is asked for again (ms): at most a day.
    ahead: u64,
    /// What was asked for again and again of late, at hand.
    front: Front,
    good: Cache<Key, Good>,
    bad: Cache<Key, Bad>,
    interner: Interner,
    /// Raised when all is forgotten: what was kept before is not valid any more.
    era: AtomicU32,
}

impl MemoryCache {
    pub(crate) fn new(limits: Limits) -> Self {
        // Moka frees the memory by its own clock; whether an entry is valid is looked at here, by ours.
        let life = |age: Duration| age.max(Duration::from_millis(1));
        Self {
            limits,
            ahead: span(limits.ahead.unwrap_or(limits.max_age / 10)),
            front: Front::new(),
            good: Cache::builder()
                .max_capacity(limits.max_entries)
                .weigher(|_, entry: &Good| entry.weight)
                .time_to_live(life(limits.max_age.saturating_add(limits.stale)))
                .build(),
            bad: Cache::builder()
                .max_capacity(limits.negative_max_entries)
                .time_to_live(life(limits.negative_max_age))
                .build(),
            interner: Interner::new(),
            era: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn tag(&self, token: &str) -> Tag {
        self.front.tag(token)
    }

    /// What is known of a token that is at hand, for this binding, and still valid.
    #[inline]
    pub(crate) fn at_hand(&self, tag: Tag, binding: Binding, now: Moment) -> Option<(Key, Known)> {
        self.front.get(tag, |key, entry| {
            let usable = entry.is_of(binding) && entry.is_valid(now);
            usable.then(|| (*key, self.known(key, entry, now)))
        })
    }

    /// What is known of a token for this binding, and still valid. A certificate that the token may
    /// be bound to is not looked at: that is among the facts. A token in use is at hand from then on.
    pub(crate) fn find(&self, tag: Tag, key: &Key, binding: Binding, now: Moment) -> Option<Known> {
        let ticket = self.front.ticket(key);
        let Some(entry) = self.valid(key, binding, now) else {
            let answer = Err(self.known_bad(key, binding, now)?);
            return Some(Known { answer, ends: false });
        };
        let known = self.known(key, &entry, now);
        self.front.offer(ticket, tag, key, entry);
        Some(known)
    }

    /// The same, without its being in use.
    pub(crate) fn get(
        &self,
        key: &Key,
        binding: Binding,
        now: Moment,
    ) -> Option<Result<TokenInfo, Rejection>> {
        let good = self.valid(key, binding, now).map(|entry| Ok(entry.token));
        good.or_else(|| self.known_bad(key, binding, now).map(Err))
    }

    /// Whether an answer that was decided then would still be kept.
    pub(crate) fn is_new_enough(&self, decided: Moment, now: Moment) -> bool {
        !decided.after(self.limits.max_age).is_past(now)
    }

    #[inline]
    fn known(&self, key: &Key, entry: &Good, now: Moment) -> Known {
        // Not all at once: each key has a part of its own of that time, between half of it and all.
        let ahead = self.ahead * (256 + key.lot(256) as u64) / 512;
        let ends = entry.until.is_past(now.after_millis(ahead));
        Known { answer: Ok(entry.token.clone()), ends }
    }

    fn valid(&self, key: &Key, binding: Binding, now: Moment) -> Option<Good> {
        self.good(key).filter(|entry| entry.is_of(binding) && entry.is_valid(now))
    }

    fn known_bad(&self, key: &Key, binding: Binding, now: Moment) -> Option<Rejection> {
        let entry = self.bad.get(key)?;
        let same = entry.binding.as_deref().copied().unwrap_or_default() == binding;
        let valid = same && !entry.until.is_past(now) && entry.era == self.era();
        valid.then_some(entry.rejection)
    }

    /// What was known of a token for this binding, if its age ended no longer ago than this, for when
    /// Authlete cannot be asked.
    pub(crate) fn stale(
        &self,
        key: &Key,
        binding: Binding,
        up_to: Duration,
        now: Moment,
    ) -> Option<TokenInfo> {
        let entry = self.good(key).filter(|entry| entry.is_of(binding))?;
        let over = entry.until.after(up_to).is_past(now) || entry.token.is_past(now.wall);
        (!over).then(|| entry.token.stale(entry.until.wall))
    }

    /// How many good tokens are known, roughly.
    pub(crate) fn len(&self) -> u64 {
        self.good.entry_count()
    }

    fn good(&self, key: &Key) -> Option<Good> {
        self.good.get(key).filter(|entry| entry.era == self.era())
    }

    fn era(&self) -> u32 {
        self.era.load(Ordering::Acquire)
    }

    /// Keeps an answer that was decided then in place of what was known. An answer that may not be kept still removes
    /// what it contradicts.
    pub(crate) fn put(
        &self,
        key: Key,
        binding: Binding,
        answer: &Result<TokenInfo, Rejection>,
        decided: Moment,
    ) {
        match answer {
            Ok(token) => {
                self.remove(&key);
                let until = decided.after(self.limits.max_age);
                let proven = binding.key.map(Arc::new);
                self.keep(key, proven, token.clone(), until, decided);
            }
            Err(rejection) => {
                // A token is not bad because somebody presents it who is not its binding.
                let other = self.good.get(&key).is_some_and(|entry| {
                    !entry.is_of(binding) || !entry.token.is_bound_to(binding.certificate.as_ref())
                });
                if other {
                    self.bad.invalidate(&key);
                } else {
                    self.remove(&key);
                }
                if !self.limits.negative_max_age.is_zero() {
                    let until = decided.after(self.limits.negative_max_age);
                    let binding = (binding != Binding::BEARER).then(|| Arc::new(binding));
                    let (rejection, era) = (rejection.clone(), self.era());
                    self.bad.insert(key, Bad { rejection, until, binding, era });
                }
            }
        }
    }

    /// Keeps what has become of the facts of a token, under the same or another key, no longer than
    /// they would have been kept. Without any, the token is forgotten.
    pub(crate) fn update(
        &self,
        from: &Key,
        to: Key,
        now: Moment,
        change: impl FnOnce(&TokenInfo, Binding) -> Option<TokenInfo>,
    ) {
        let known = self.good(from).filter(|entry| entry.is_valid(now));
        self.remove(from);
        self.remove(&to);
        let Some(known) = known else { return };
        let binding = Binding { key: known.key.as_deref().copied(), certificate: None };
        if let Some(token) = change(&known.token, binding) {
            self.keep(to, known.key, token, known.until, now);
        }
    }

    /// Nobody goes by what is known of a token any more but in an outage.
    pub(crate) fn outdate(&self, key: &Key, now: Moment) {
        let known = self.good(key);
        self.remove(key);
        if let Some(known) = known {
            let until = known.until.min(now);
            self.good.insert(*key, Good { until, ..known });
        }
    }

    fn keep(
        &self,
        key: Key,
        proven: Option<Arc<Thumbprint>>,
        token: TokenInfo,
        until: Moment,
        now: Moment,
    ) {
        let weight = token.size().div_ceil(BYTES_PER_WEIGHT);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        // It would push out all others before it falls out itself.
        if u64::from(weight) > self.limits.max_entries {
            return;
        }
        let token = token.interned(&self.interner);
        let entry = Good { token, until, key: proven, weight, era: self.era() };
        if entry.is_valid(now) {
            self.good.insert(key, entry);
        }
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.good.invalidate(key);
        self.bad.invalidate(key);
        self.front.forget(key);
    }

    pub(crate) fn remove_all(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
        self.good.invalidate_all();
        self.bad.invalidate_all();
        self.front.forget_all();
        self.interner.clear();
    }
}

// A model of the cache has little of the rest of the crate.
#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;
    use crate::{
        api::IntrospectionResponse, cache::KeySpace, clock::Clock, observe::LogLimit, verdict,
    };

    /// A cache that knows a token, which was looked up once.
    fn known(answer: serde_json::Value) -> (MemoryCache, Key, Tag, Moment) {
        let minute = Duration::from_secs(60);
        let cache = MemoryCache::new(Limits {
            max_age: minute,
            max_entries: 10,
            negative_max_age: minute,
            negative_max_entries: 10,
            stale: Duration::ZERO,
            ahead: None,
        });
        let (key, now) = (KeySpace::new(&[0; 32], "a", "b").key("token"), Clock::system().moment());
        let answer: IntrospectionResponse = serde_json::from_value(answer).unwrap();
        cache.put(
            key,
            Binding::BEARER,
            &verdict::of_introspection(&answer, &LogLimit::default()),
            now,
        );
        let tag = cache.tag("token");
        assert!(cache.find(tag, &key, Binding::BEARER, now).is_some());
        (cache, key, tag, now)
    }

    #[test]
    fn a_look_up_that_a_removal_overtakes_puts_nothing_at_hand() {
        for all in [false, true] {
            let (cache, key, tag, now) = known(serde_json::json!({ "action": "OK" }));
            let (ticket, entry) = (cache.front.ticket(&key), cache.good(&key).unwrap());
            if all {
                cache.remove_all()
            } else {
                cache.remove(&key)
            }
            cache.front.offer(ticket, tag, &key, entry);
            assert!(cache.at_hand(tag, Binding::BEARER, now).is_none(), "{all}");
            assert!(cache.find(tag, &key, Binding::BEARER, now).is_none(), "{all}");
        }
    }

    #[test]
    fn a_token_that_is_looked_up_twice_is_at_hand_until_it_is_removed() {
        let (cache, key, tag, now) = known(serde_json::json!({ "action": "OK" }));
        let at_hand = || cache.at_hand(tag, Binding::BEARER, now);
        assert!(at_hand().is_none());
        cache.find(tag, &key, Binding::BEARER, now);
        assert!(at_hand().is_some_and(|(at_hand, _)| at_hand == key));
        let other = Binding { key: Some([1; 32]), ..Binding::BEARER };
        assert!(cache.at_hand(tag, other, now).is_none());
        let later = now.after(Duration::from_secs(60));
        assert!(cache.at_hand(tag, Binding::BEARER, later).is_none());
        cache.remove(&key);
        assert!(at_hand().is_none());
    }

    #[test]
    fn what_was_kept_before_all_was_forgotten_is_not_valid_though_it_is_still_there() {
        let (cache, key, _, now) = known(serde_json::json!({ "action": "OK" }));
        let entry = cache.good(&key).unwrap();
        cache.remove_all();
        cache.good.insert(key, entry);
        assert!(cache.get(&key, Binding::BEARER, now).is_none());
        assert!(cache.stale(&key, Binding::BEARER, Duration::MAX, now).is_none());
        let (cache, key, _, now) = known(serde_json::json!({ "action": "UNAUTHORIZED" }));
        let entry = cache.bad.get(&key).unwrap();
        cache.remove_all();
        cache.bad.insert(key, entry);
        assert!(cache.get(&key, Binding::BEARER, now).is_none());
    }
}
