//! The values that a token has had, and since when it is known: what belongs to the token rather than to
//! one of its values.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};

use super::lifetime::ExtendLifetime;
use crate::{
    clock::{CENTURY, Moment},
    store::Key,
};

/// Of how many tokens times and values are remembered.
pub(super) const MAX_REMEMBERED: u64 = 100_000;

/// Times of tokens, each of which is remembered until nobody has asked for it for so long.
pub(super) fn remembered(idle: Duration) -> Cache<Key, Moment> {
    Cache::builder().max_capacity(MAX_REMEMBERED).time_to_idle(idle.min(CENTURY)).build()
}

/// The lineages of tokens, found by any of their values. Of more than 100 000 values, those that were
/// not asked for for longest are dropped.
pub(crate) struct Lineages {
    by_value: Cache<Key, Arc<Lineage>>,
    /// For how long processes share since when they know a token, if its life is bounded.
    pub(super) shared_for: Option<Duration>,
}

struct Lineage(Mutex<Values>);

#[derive(Clone)]
struct Values {
    first_seen: Moment,
    newest: Key,
    /// The one before, which may overlap with the newest.
    previous: Option<Key>,
    /// By which Authlete names the token, whatever its value.
    token_id: Option<String>,
    /// The token was revoked: it gets no further value.
    ended: bool,
}

impl Lineage {
    fn new(value: Key, now: Moment) -> Self {
        Self(Mutex::new(Values {
            first_seen: now,
            newest: value,
            previous: None,
            token_id: None,
            ended: false,
        }))
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lineages {
    /// Lineages that are dropped when nobody has asked for them for as long as a token lives at most.
    pub(crate) fn new(extension: Option<&ExtendLifetime>) -> Self {
        let idle = extension.map_or(CENTURY, |extension| extension.never_beyond);
        let lineages = Cache::builder()
            .max_capacity(MAX_REMEMBERED)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(idle.min(CENTURY));
        // No token is extended beyond that, so that who sees it later need not know.
        let shared_for = extension.map(|extension| extension.never_beyond.saturating_mul(2));
        Self { by_value: lineages.build(), shared_for }
    }

    fn get_or_begin(&self, value: &Key, now: Moment) -> Arc<Lineage> {
        self.by_value.get_with(*value, || Arc::new(Lineage::new(*value, now)))
    }

    fn values(&self, value: &Key) -> Option<Values> {
        Some(self.by_value.get(value)?.values().clone())
    }

    /// When a token was first seen, by whatever value: now, unless it was before.
    pub(crate) fn first_seen(&self, value: &Key, now: Moment) -> Moment {
        self.get_or_begin(value, now).values().first_seen
    }

    /// Notes that a token is known since then. Tells whether it was not known yet.
    pub(super) fn see(&self, value: &Key, since: Moment) -> bool {
        let mut is_new = false;
        self.by_value.get_with(*value, || {
            is_new = true;
            Arc::new(Lineage::new(*value, since))
        });
        is_new
    }

    /// Another process has known a token since then.
    pub(super) fn known_since(&self, value: &Key, since: Moment) {
        if let Some(lineage) = self.by_value.get(value) {
            let mut values = lineage.values();
            values.first_seen = values.first_seen.min(since);
        }
    }

    /// A token has got a new value. Tells whether it was revoked meanwhile, so that the new value has to be
    /// revoked, too.
    pub(crate) fn renew(&self, old: &Key, new: Key, token_id: Option<&str>, now: Moment) -> bool {
        let lineage = self.get_or_begin(old, now);
        self.by_value.insert(new, lineage.clone());
        let mut values = lineage.values();
        values.previous = Some(values.newest).filter(|newest| *newest != new).or(values.previous);
        values.newest = new;
        values.token_id = token_id.map(Into::into).or(values.token_id.take());
        values.ended
    }

    /// A token is revoked: values that it is getting right now are not to be used.
    pub(crate) fn end(&self, value: &Key, now: Moment) {
        self.get_or_begin(value, now).values().ended = true;
    }

    /// The newest value of a token.
    pub(crate) fn newest(&self, value: &Key) -> Key {
        self.values(value).map_or(*value, |values| values.newest)
    }

    /// The value before the newest one.
    pub(crate) fn previous(&self, value: &Key) -> Option<Key> {
        self.values(value)?.previous
    }

    /// The values by which something can be known of a token: this one, the newest, and the one before.
    pub(crate) fn alive(&self, value: Key) -> impl Iterator<Item = Key> {
        let values = self.values(&value);
        let (newest, previous) =
            values.map_or((None, None), |values| (Some(values.newest), values.previous));
        let others = [previous, newest].into_iter().flatten().filter(move |it| *it != value);
        std::iter::once(value).chain(others)
    }

    /// By what Authlete names a token whose value was changed here.
    pub(crate) fn token_id(&self, value: &Key) -> Option<String> {
        self.values(value)?.token_id
    }
}

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;
    use crate::store::KeySpace;

    #[test]
    fn a_token_is_known_by_all_its_values_since_the_first() {
        let (lineages, keys) = (Lineages::new(None), KeySpace::new(&[0; 32], "a"));
        let [one, two, three, other] = ["1", "2", "3", "4"].map(|it| keys.key(it));
        let begin = Moment { wall: 1, monotonic: 1 };
        let later = begin.after(Duration::from_secs(60));
        assert_eq!(lineages.first_seen(&one, begin), begin);
        assert!(!lineages.renew(&one, two, Some("id"), later));
        // An update that changes no value.
        assert!(!lineages.renew(&two, two, None, later));
        assert!(!lineages.renew(&two, three, None, later));
        assert!(!lineages.see(&two, later) && lineages.see(&other, later));
        lineages.known_since(&one, later);
        for value in [one, two, three] {
            assert_eq!(lineages.first_seen(&value, later), begin);
            assert!(lineages.newest(&value) == three && lineages.previous(&value) == Some(two));
            assert_eq!(lineages.token_id(&value).as_deref(), Some("id"));
        }
        let alive: Vec<_> = lineages.alive(one).collect();
        assert!(alive == [one, two, three]);
        assert!(lineages.alive(other).eq([other]) && lineages.newest(&other) == other);
        lineages.known_since(&three, Moment::default());
        assert_eq!(lineages.first_seen(&one, later), Moment::default());
    }

    #[test]
    fn a_value_that_a_revoked_token_gets_is_told_to_be_revoked() {
        let (lineages, keys) = (Lineages::new(None), KeySpace::new(&[0; 32], "a"));
        let [one, two] = ["1", "2"].map(|it| keys.key(it));
        lineages.end(&one, Moment::default());
        assert!(lineages.renew(&one, two, None, Moment::default()));
    }
}
