//! The cache in this process's memory: good tokens, and in a pool of their own the bad ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use moka::{Expiry, sync::Cache};

use super::{Holder, Key};
use crate::{clock::Clock, rejection::Rejection, token::TokenInfo};

/// An entry weighs one for each started piece of this many bytes.
const BYTES_PER_WEIGHT: usize = 4096;

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_age: Duration,
    pub(crate) max_entries: u64,
    pub(crate) negative_max_age: Duration,
    pub(crate) negative_max_entries: u64,
}

pub(crate) struct MemoryCache {
    limits: Limits,
    clock: Clock,
    good: Cache<Key, Arc<Entry<TokenInfo>>>,
    bad: Cache<Key, Arc<Entry<Rejection>>>,
    /// Raised when all is forgotten: what was kept before is not valid any more.
    era: AtomicU64,
}

struct Entry<T> {
    value: T,
    holder: Holder,
    weight: u32,
    /// When Authlete has to be asked again, by the clock of the day.
    until: SystemTime,
    /// As a span, by which moka frees the memory.
    life: Duration,
    era: u64,
}

/// Frees an entry's memory when its life is over.
struct Life;

impl<T> Expiry<Key, Arc<Entry<T>>> for Life {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry<T>>, _: Instant) -> Option<Duration> {
        Some(entry.life)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry<T>>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.life)
    }
}

fn pool<T: Send + Sync + 'static>(capacity: u64) -> Cache<Key, Arc<Entry<T>>> {
    Cache::builder()
        .max_capacity(capacity)
        .weigher(|_, entry: &Arc<Entry<T>>| entry.weight)
        .expire_after(Life)
        .build()
}

impl MemoryCache {
    pub(crate) fn new(limits: Limits, clock: Clock) -> Self {
        Self {
            limits,
            clock,
            good: pool(limits.max_entries),
            bad: pool(limits.negative_max_entries),
            era: AtomicU64::new(0),
        }
    }

    /// What is known of a token for this holder, and still valid. A certificate that the token may
    /// be bound to is not looked at: that is among the facts.
    pub(crate) fn get(&self, key: &Key, holder: Holder) -> Option<Result<TokenInfo, Rejection>> {
        if let Some(entry) = self.good(key).filter(|entry| entry.holder.key == holder.key) {
            return Some(Ok(entry.value.clone()));
        }
        let entry = self.bad.get(key)?;
        let valid = entry.holder == holder && self.valid(&entry);
        valid.then(|| Err(entry.value.clone()))
    }

    fn good(&self, key: &Key) -> Option<Arc<Entry<TokenInfo>>> {
        let entry = self.good.get(key).filter(|entry| self.valid(entry))?;
        let alive = entry.value.expires_at().is_none_or(|at| self.clock.now() < at);
        alive.then_some(entry)
    }

    /// Moka looks at its own clock; the entry is looked at again here, by ours.
    fn valid<T>(&self, entry: &Entry<T>) -> bool {
        entry.era == self.era.load(Ordering::Acquire) && self.clock.now() < entry.until
    }

    /// Keeps an answer in place of what was known. An answer that may not be kept still removes
    /// what it contradicts.
    pub(crate) fn put(&self, key: Key, holder: Holder, answer: &Result<TokenInfo, Rejection>) {
        match answer {
            Ok(token) => {
                self.remove(&key);
                let until = self.clock.now().checked_add(self.limits.max_age);
                self.keep(key, holder, token.clone(), until);
            }
            Err(rejection) => {
                // A token is not bad because somebody presents it who is not its holder.
                let other = self.good.get(&key).is_some_and(|entry| entry.holder.key != holder.key);
                if !other {
                    self.good.invalidate(&key);
                }
                self.bad.invalidate(&key);
                let life = self.limits.negative_max_age;
                if let Some(until) = self.clock.now().checked_add(life) {
                    let entry = self.entry(rejection.clone(), holder, 1, until, life);
                    insert(&self.bad, key, entry);
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
        change: impl FnOnce(&TokenInfo, Holder) -> Option<TokenInfo>,
    ) {
        let known = self.good(from);
        self.remove(from);
        self.remove(&to);
        let Some(known) = known else { return };
        if let Some(token) = change(&known.value, known.holder) {
            self.keep(to, known.holder, token, Some(known.until));
        }
    }

    fn keep(&self, key: Key, holder: Holder, token: TokenInfo, until: Option<SystemTime>) {
        let Some(until) = until else { return };
        let end = token.expires_at().map_or(until, |at| at.min(until));
        let life = end.duration_since(self.clock.now()).unwrap_or_default();
        let weight = token.size().div_ceil(BYTES_PER_WEIGHT);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        insert(&self.good, key, self.entry(token, holder, weight, until, life));
    }

    fn entry<T>(
        &self,
        value: T,
        holder: Holder,
        weight: u32,
        until: SystemTime,
        life: Duration,
    ) -> Entry<T> {
        Entry { value, holder, weight, until, life, era: self.era.load(Ordering::Acquire) }
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.good.invalidate(key);
        self.bad.invalidate(key);
    }

    pub(crate) fn remove_all(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
        self.good.invalidate_all();
        self.bad.invalidate_all();
    }
}

fn insert<T: Send + Sync + 'static>(pool: &Cache<Key, Arc<Entry<T>>>, key: Key, entry: Entry<T>) {
    if !entry.life.is_zero() {
        pool.insert(key, Arc::new(entry));
    }
}
