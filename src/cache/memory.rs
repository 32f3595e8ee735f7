//! The cache in this process's memory: good tokens, and in a pool of their own the bad ones.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use moka::{Expiry, sync::Cache};

use super::Key;
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
    good: Cache<Key, Entry<TokenInfo>>,
    bad: Cache<Key, Entry<Rejection>>,
    /// Raised when all is forgotten: what was kept before is not valid any more.
    era: AtomicU64,
}

#[derive(Clone)]
struct Entry<T> {
    value: T,
    weight: u32,
    /// By the clock of the day, which `valid` goes by.
    until: SystemTime,
    /// As a span, by which moka frees the memory.
    life: Duration,
    era: u64,
}

/// Frees an entry's memory when its life is over.
struct Life;

impl<T> Expiry<Key, Entry<T>> for Life {
    fn expire_after_create(&self, _: &Key, entry: &Entry<T>, _: Instant) -> Option<Duration> {
        Some(entry.life)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Entry<T>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.life)
    }
}

fn pool<T: Clone + Send + Sync + 'static>(capacity: u64) -> Cache<Key, Entry<T>> {
    Cache::builder()
        .max_capacity(capacity)
        .weigher(|_, entry: &Entry<T>| entry.weight)
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

    /// What is known and still valid.
    pub(crate) fn get(&self, key: &Key) -> Option<Result<TokenInfo, Rejection>> {
        if let Some(entry) = self.good.get(key).filter(|entry| self.valid(entry)) {
            return Some(Ok(entry.value));
        }
        let entry = self.bad.get(key).filter(|entry| self.valid(entry))?;
        Some(Err(entry.value))
    }

    /// Moka looks at its own clock; the entry is looked at again here, by ours.
    fn valid<T>(&self, entry: &Entry<T>) -> bool {
        entry.era == self.era.load(Ordering::Acquire) && self.clock.now() < entry.until
    }

    /// Keeps an answer in place of what was known. An answer that may not be kept still removes
    /// what it contradicts.
    pub(crate) fn put(&self, key: Key, answer: &Result<TokenInfo, Rejection>) {
        self.remove(&key);
        match answer {
            Ok(token) => {
                let now = self.clock.now();
                let left = token
                    .expires_at()
                    .map_or(Duration::MAX, |at| at.duration_since(now).unwrap_or_default());
                let weight = token.size().div_ceil(BYTES_PER_WEIGHT);
                let life = left.min(self.limits.max_age);
                self.insert(&self.good, key, token.clone(), weight, life);
            }
            Err(rejection) => {
                let life = self.limits.negative_max_age;
                self.insert(&self.bad, key, rejection.clone(), 1, life);
            }
        }
    }

    fn insert<T: Clone + Send + Sync + 'static>(
        &self,
        pool: &Cache<Key, Entry<T>>,
        key: Key,
        value: T,
        weight: usize,
        life: Duration,
    ) {
        let Some(until) = self.clock.now().checked_add(life) else {
            return;
        };
        if life.is_zero() {
            return;
        }
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let era = self.era.load(Ordering::Acquire);
        pool.insert(key, Entry { value, weight, until, life, era });
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
