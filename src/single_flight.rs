//! Single-flight: one call for all who want its outcome at the same time.
//!
//! Who joins first leads: it makes the call and completes it. The others wait for what it tells, also if
//! that is a failure. A leader that is dropped leaves its place, and tells those who wait that it broke off.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// The calls under way, one for each key.
pub(crate) struct SingleFlight<K, V>(Arc<Mutex<Table<K, V>>>);

struct Table<K, V> {
    calls: HashMap<K, Place<V>>,
    /// How many reservations each key has.
    reserved: HashMap<K, usize>,
}

struct Place<V> {
    call: Arc<Call<V>>,
    invalidated: bool,
}

/// A call under way.
pub(crate) struct Call<V>(watch::Receiver<Option<V>>);

impl<V: Clone> Call<V> {
    /// Waits for the outcome; `None` if the call broke off. It can be dropped at any time.
    pub(crate) async fn outcome(&self) -> Option<V> {
        self.0.clone().wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// What to do about a call.
pub(crate) enum Join<K: Copy + Eq + Hash, V> {
    /// It is under way.
    Wait(Arc<Call<V>>),
    /// It is to be made, and completed by the leader.
    Lead(Arc<Call<V>>, Leader<K, V>),
}

impl<K: Copy + Eq + Hash, V> SingleFlight<K, V> {
    pub(crate) fn new() -> Self {
        let table = Table { calls: HashMap::new(), reserved: HashMap::new() };
        Self(Arc::new(Mutex::new(table)))
    }

    /// Keeps others from joining, leading and completing while something else is looked at or changed.
    pub(crate) fn lock(&self) -> Locked<'_, K, V> {
        Locked { shared: &self.0, table: locked(&self.0) }
    }

    /// Takes the place of the leader, after waiting for a call that is under way. Who joins meanwhile is told
    /// that the call broke off.
    #[cfg(feature = "session")]
    pub(crate) async fn occupy(&self, key: K) -> Leader<K, V>
    where
        V: Clone,
    {
        loop {
            let join = self.lock().join(key);
            match join {
                Join::Wait(call) => call.outcome().await,
                Join::Lead(_, leader) => return leader,
            };
        }
    }
}

fn locked<K, V>(shared: &Mutex<Table<K, V>>) -> MutexGuard<'_, Table<K, V>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls under way, under their lock.
pub(crate) struct Locked<'f, K, V> {
    shared: &'f Arc<Mutex<Table<K, V>>>,
    table: MutexGuard<'f, Table<K, V>>,
}

impl<K: Copy + Eq + Hash, V> Locked<'_, K, V> {
    /// The call that is under way.
    pub(crate) fn under_way(&self, key: &K) -> Option<Arc<Call<V>>> {
        Some(self.table.calls.get(key)?.call.clone())
    }

    pub(crate) fn join(&mut self, key: K) -> Join<K, V> {
        if let Some(call) = self.under_way(&key) {
            return Join::Wait(call);
        }
        let (sender, receiver) = watch::channel(None);
        let call = Arc::new(Call(receiver));
        let place = Place { call: call.clone(), invalidated: false };
        self.table.calls.insert(key, place);
        let leader = Leader { shared: self.shared.clone(), key, call: call.clone(), sender };
        Join::Lead(call, leader)
    }

    /// The leader of a call that is under way learns of it.
    pub(crate) fn invalidate(&mut self, key: &K) {
        if let Some(place) = self.table.calls.get_mut(key) {
            place.invalidated = true;
        }
    }

    /// The leaders of all calls that are under way learn of it.
    pub(crate) fn invalidate_all(&mut self) {
        self.table.calls.values_mut().for_each(|place| place.invalidated = true);
    }

    /// Notes that nobody is to lead a call who asks first. There can be several reservations at a time,
    /// which do not wait for each other.
    pub(crate) fn reserve(&mut self, key: K) -> Reservation<K, V> {
        *self.table.reserved.entry(key).or_default() += 1;
        Reservation { shared: self.shared.clone(), key }
    }

    pub(crate) fn is_reserved(&self, key: &K) -> bool {
        self.table.reserved.contains_key(key)
    }
}

/// Makes a call, and tells its outcome to all who wait.
pub(crate) struct Leader<K: Copy + Eq + Hash, V> {
    shared: Arc<Mutex<Table<K, V>>>,
    key: K,
    call: Arc<Call<V>>,
    sender: watch::Sender<Option<V>>,
}

impl<K: Copy + Eq + Hash, V> Leader<K, V> {
    /// Leaves the place, and makes known what came of the call before anybody else can lead one. Tells the
    /// closure whether the call was invalidated.
    pub(crate) fn publish<T>(&self, publish: impl FnOnce(bool) -> T) -> T {
        let mut table = locked(&self.shared);
        let invalidated = self.leave(&mut table);
        publish(invalidated)
    }

    /// Tells the outcome to all who wait.
    pub(crate) fn complete(self, outcome: V) {
        self.leave(&mut locked(&self.shared));
        self.sender.send_replace(Some(outcome));
    }

    fn leave(&self, table: &mut Table<K, V>) -> bool {
        match table.calls.get(&self.key) {
            Some(place) if Arc::ptr_eq(&place.call, &self.call) => {
                let invalidated = place.invalidated;
                table.calls.remove(&self.key);
                invalidated
            }
            _ => true,
        }
    }
}

impl<K: Copy + Eq + Hash, V> Drop for Leader<K, V> {
    fn drop(&mut self) {
        self.leave(&mut locked(&self.shared));
    }
}

/// While it lives, nobody is to lead a call.
pub(crate) struct Reservation<K: Copy + Eq + Hash, V> {
    shared: Arc<Mutex<Table<K, V>>>,
    key: K,
}

impl<K: Copy + Eq + Hash, V> Drop for Reservation<K, V> {
    fn drop(&mut self) {
        let mut table = locked(&self.shared);
        if let Some(reservations) = table.reserved.get_mut(&self.key) {
            *reservations -= 1;
            if *reservations == 0 {
                table.reserved.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;

    type Integers = SingleFlight<u32, u32>;

    fn lead(calls: &Integers, key: u32) -> (Arc<Call<u32>>, Leader<u32, u32>) {
        let join = calls.lock().join(key);
        match join {
            Join::Lead(call, leader) => (call, leader),
            Join::Wait(_) => panic!("a call of {key} is under way"),
        }
    }

    fn wait(calls: &Integers, key: u32) -> Arc<Call<u32>> {
        let join = calls.lock().join(key);
        match join {
            Join::Wait(call) => call,
            Join::Lead(..) => panic!("no call of {key} is under way"),
        }
    }

    #[tokio::test]
    async fn all_who_join_learn_what_the_leader_tells() {
        let calls = Integers::new();
        let (own, leader) = lead(&calls, 1);
        let waiters = [wait(&calls, 1), wait(&calls, 1)];
        let (_, other) = lead(&calls, 2);
        leader.complete(7);
        assert_eq!(own.outcome().await, Some(7));
        for waiter in waiters {
            assert_eq!(waiter.outcome().await, Some(7));
        }
        drop(other);
        // The next one who joins makes a call of its own.
        lead(&calls, 1);
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_tells_that_the_call_broke_off() {
        let calls = Integers::new();
        let (_, leader) = lead(&calls, 1);
        let waiter = wait(&calls, 1);
        drop(leader);
        assert_eq!(waiter.outcome().await, None);
        lead(&calls, 1);
    }

    #[test]
    fn what_is_published_is_there_before_anybody_else_leads() {
        let calls = Integers::new();
        let (_, leader) = lead(&calls, 1);
        assert!(!leader.publish(|invalidated| invalidated));
        let (_, next) = lead(&calls, 1);
        // The first one does not take the place of the next away.
        leader.complete(7);
        wait(&calls, 1);
        drop(next);
    }

    #[test]
    fn the_leader_learns_that_its_call_was_invalidated() {
        let calls = Integers::new();
        for all in [false, true] {
            let ((_, one), (_, two)) = (lead(&calls, 1), lead(&calls, 2));
            if all {
                calls.lock().invalidate_all();
            } else {
                calls.lock().invalidate(&1);
            }
            assert!(one.publish(|invalidated| invalidated));
            assert_eq!(two.publish(|invalidated| invalidated), all);
        }
    }

    #[test]
    fn reservations_are_counted() {
        let calls = Integers::new();
        let reserve = || calls.lock().reserve(1);
        let is_reserved = |key| calls.lock().is_reserved(&key);
        let (one, two) = (reserve(), reserve());
        drop(one);
        assert_eq!((is_reserved(1), is_reserved(2)), (true, false));
        drop(two);
        assert!(!is_reserved(1));
    }

    #[cfg(feature = "session")]
    #[tokio::test]
    async fn who_occupies_a_place_waits_for_the_call_that_is_under_way() {
        let calls = Integers::new();
        let (_, leader) = lead(&calls, 1);
        let mut occupies = Box::pin(calls.occupy(1));
        assert!(futures_util::poll!(&mut occupies).is_pending());
        leader.complete(7);
        let place = occupies.await;
        let waiter = wait(&calls, 1);
        drop(place);
        assert_eq!(waiter.outcome().await, None);
    }
}
