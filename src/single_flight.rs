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

/// The calls under way. It has no lock of its own: [`SingleFlight`] adds one, and the token store keeps it
/// under its own. `A` is what is told about a call before it has an outcome.
pub(crate) struct Table<K, V, A = ()>(HashMap<K, Vec<Arc<Call<V, A>>>>);

/// A call under way.
pub(crate) struct Call<V, A = ()> {
    pub(crate) about: A,
    outcome: watch::Receiver<Option<V>>,
}

impl<V: Clone, A> Call<V, A> {
    /// Waits for the outcome; `None` if the call broke off. It can be dropped at any time.
    pub(crate) async fn outcome(&self) -> Option<V> {
        self.outcome.clone().wait_for(Option::is_some).await.ok()?.clone()
    }

    /// The outcome, if there is one.
    pub(crate) fn outcome_by_now(&self) -> Option<V> {
        self.outcome.borrow().clone()
    }
}

impl<K: Copy + Eq + Hash, V, A> Table<K, V, A> {
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    /// The calls of a key that are under way, in the order of their start.
    pub(crate) fn of<'t>(
        &'t self,
        key: &K,
    ) -> impl DoubleEndedIterator<Item = &'t Arc<Call<V, A>>> {
        self.0.get(key).into_iter().flatten()
    }

    /// The last call that suits, to wait for.
    pub(crate) fn join(&self, key: &K, suits: impl Fn(&A) -> bool) -> Option<Arc<Call<V, A>>> {
        self.of(key).rev().find(|call| suits(&call.about)).cloned()
    }

    /// A new call, and the sender that tells its outcome.
    pub(crate) fn start(
        &mut self,
        key: K,
        about: A,
    ) -> (Arc<Call<V, A>>, watch::Sender<Option<V>>) {
        let (sender, outcome) = watch::channel(None);
        let call = Arc::new(Call { about, outcome });
        self.0.entry(key).or_default().push(call.clone());
        (call, sender)
    }

    /// Removes a call. Tells whether it was there.
    pub(crate) fn remove(&mut self, key: &K, call: &Arc<Call<V, A>>) -> bool {
        let Some(calls) = self.0.get_mut(key) else { return false };
        let position = calls.iter().position(|other| Arc::ptr_eq(other, call));
        position.map(|position| calls.remove(position));
        if calls.is_empty() {
            self.0.remove(key);
        }
        position.is_some()
    }

    /// Removes all calls of a key.
    pub(crate) fn remove_all_of(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Removes all calls of these keys.
    pub(crate) fn remove_where(&mut self, of: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| !of(key));
    }
}

/// The calls under way, one for each key.
pub(crate) struct SingleFlight<K, V>(Arc<Mutex<State<K, V>>>);

struct State<K, V> {
    calls: Table<K, V>,
    /// How many reservations each key has.
    reserved: HashMap<K, usize>,
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
        let state = State { calls: Table::new(), reserved: HashMap::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Keeps others from joining, leading and completing while something else is looked at or changed.
    pub(crate) fn lock(&self) -> Locked<'_, K, V> {
        Locked { shared: &self.0, state: locked(&self.0) }
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

fn locked<K, V>(shared: &Mutex<State<K, V>>) -> MutexGuard<'_, State<K, V>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls under way, under their lock.
pub(crate) struct Locked<'f, K, V> {
    shared: &'f Arc<Mutex<State<K, V>>>,
    state: MutexGuard<'f, State<K, V>>,
}

impl<K: Copy + Eq + Hash, V> Locked<'_, K, V> {
    /// The call that is under way.
    pub(crate) fn under_way(&self, key: &K) -> Option<Arc<Call<V>>> {
        self.state.calls.join(key, |()| true)
    }

    pub(crate) fn join(&mut self, key: K) -> Join<K, V> {
        if let Some(call) = self.under_way(&key) {
            return Join::Wait(call);
        }
        let (call, sender) = self.state.calls.start(key, ());
        let leader = Leader { shared: self.shared.clone(), key, call: call.clone(), sender };
        Join::Lead(call, leader)
    }

    /// Notes that nobody is to lead a call who asks first. There can be several reservations at a time,
    /// which do not wait for each other.
    pub(crate) fn reserve(&mut self, key: K) -> Reservation<K, V> {
        *self.state.reserved.entry(key).or_default() += 1;
        Reservation { shared: self.shared.clone(), key }
    }

    pub(crate) fn is_reserved(&self, key: &K) -> bool {
        self.state.reserved.contains_key(key)
    }
}

/// Makes a call, and tells its outcome to all who wait.
pub(crate) struct Leader<K: Copy + Eq + Hash, V> {
    shared: Arc<Mutex<State<K, V>>>,
    key: K,
    call: Arc<Call<V>>,
    sender: watch::Sender<Option<V>>,
}

impl<K: Copy + Eq + Hash, V> Leader<K, V> {
    /// Leaves the place, and makes known what came of the call before anybody else can lead one.
    pub(crate) fn publish<T>(&self, publish: impl FnOnce() -> T) -> T {
        let mut state = locked(&self.shared);
        state.calls.remove(&self.key, &self.call);
        publish()
    }

    /// Tells the outcome to all who wait.
    pub(crate) fn complete(self, outcome: V) {
        self.publish(|| ());
        self.sender.send_replace(Some(outcome));
    }
}

impl<K: Copy + Eq + Hash, V> Drop for Leader<K, V> {
    fn drop(&mut self) {
        self.publish(|| ());
    }
}

/// While it lives, nobody is to lead a call.
pub(crate) struct Reservation<K: Copy + Eq + Hash, V> {
    shared: Arc<Mutex<State<K, V>>>,
    key: K,
}

impl<K: Copy + Eq + Hash, V> Drop for Reservation<K, V> {
    fn drop(&mut self) {
        let mut state = locked(&self.shared);
        if let Some(reservations) = state.reserved.get_mut(&self.key) {
            *reservations -= 1;
            if *reservations == 0 {
                state.reserved.remove(&self.key);
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
        assert_eq!(leader.publish(|| 7), 7);
        let (_, next) = lead(&calls, 1);
        // The first one does not take the place of the next away.
        leader.complete(7);
        wait(&calls, 1);
        drop(next);
    }

    #[test]
    fn who_joins_says_which_calls_suit() {
        let mut calls = Table::<u32, (), u32>::new();
        let [old, new] = [1, 2].map(|started| calls.start(1, started).0);
        let join = |calls: &Table<_, _, _>, key, at_least| calls.join(key, |it| *it >= at_least);
        assert!(join(&calls, &1, 1).is_some_and(|it| Arc::ptr_eq(&it, &new)));
        assert!(join(&calls, &1, 3).is_none() && join(&calls, &2, 1).is_none());
        assert!(calls.remove(&1, &new) && !calls.remove(&1, &new));
        assert!(join(&calls, &1, 1).is_some_and(|it| Arc::ptr_eq(&it, &old)));
        calls.remove_all_of(&1);
        assert_eq!(calls.of(&1).count(), 0);
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
