//! What the sources that are checked take from std, tokio, arc-swap, moka and tracing, made of loom's
//! primitives: the tests name this crate `std`, `tokio` and so on, so that the sources are checked as they
//! are.
//!
//! What is lock-free promises no more here than acquire and release: a reader may see an old value
//! unless the change happened before.

pub use ::std::*;

/// The standard library's, of which loom knows nothing: they are no step of an interleaving.
pub use ::std::sync as real;

thread_local! {
    static SETS_UP: ::std::cell::Cell<bool> = const { ::std::cell::Cell::new(false) };
}

/// Sets up what is explored, before other threads are made: counters that are raised by this are loom's from
/// then on. All threads of an exploration are one to the system.
pub fn set_up<T>(run: impl FnOnce() -> T) -> T {
    SETS_UP.set(true);
    let made = run();
    SETS_UP.set(false);
    made
}

/// A value whose changes are ordered, and seen by whom they happen before.
pub struct Register<T> {
    newest: sync::atomic::AtomicU64,
    values: real::Mutex<Vec<T>>,
}

impl<T: Clone> Register<T> {
    pub fn new(value: T) -> Self {
        let register = Self::untouched(value);
        register.newest.touch();
        register
    }

    fn untouched(value: T) -> Self {
        let newest = sync::atomic::AtomicU64::new(0);
        Self { newest, values: real::Mutex::new(vec![value]) }
    }

    pub fn get(&self) -> T {
        let seen = self.newest.load(real::atomic::Ordering::Acquire);
        self.values.lock().unwrap()[seen as usize].clone()
    }

    pub fn change<U>(&self, change: impl FnOnce(&mut T) -> U) -> U {
        let last = self.newest.fetch_add(1, real::atomic::Ordering::AcqRel);
        let mut values = self.values.lock().unwrap();
        let mut value = values[last as usize].clone();
        let told = change(&mut value);
        values.push(value);
        told
    }
}

/// `arc_swap::ArcSwapOption`.
pub struct ArcSwapOption<T>(Register<Option<real::Arc<T>>>);

impl<T> Default for ArcSwapOption<T> {
    fn default() -> Self {
        Self(Register::untouched(None))
    }
}

impl<T> ArcSwapOption<T> {
    pub fn load(&self) -> Option<real::Arc<T>> {
        self.0.get()
    }

    pub fn store(&self, value: Option<real::Arc<T>>) {
        self.0.change(|it| *it = value);
    }
}

pub mod time {
    pub use ::std::time::*;

    /// `tokio::time::sleep`: nothing takes time.
    pub async fn sleep(_: Duration) {}
}

pub mod hash {
    pub use ::std::hash::*;

    /// Not random, so that each run is the same.
    #[derive(Default)]
    pub struct RandomState;

    impl RandomState {
        pub fn new() -> Self {
            Self
        }
    }

    impl BuildHasher for RandomState {
        type Hasher = DefaultHasher;

        fn build_hasher(&self) -> DefaultHasher {
            DefaultHasher::new()
        }
    }
}

/// `tracing::warn!`.
#[macro_export]
macro_rules! warn {
    ($($_:tt)*) => {};
}

/// `tracing::error!`.
#[macro_export]
macro_rules! error {
    ($($_:tt)*) => {};
}

/// `tokio::spawn`: who starts a task runs it, which takes one thread less.
pub fn spawn(task: impl Future<Output = ()>) -> Done {
    loom::future::block_on(task);
    Done
}

/// A task that is done.
pub struct Done;

impl IntoFuture for Done {
    type Output = ();
    type IntoFuture = future::Ready<()>;

    fn into_future(self) -> Self::IntoFuture {
        future::ready(())
    }
}

/// `moka::policy`.
pub mod policy {
    pub struct EvictionPolicy;

    impl EvictionPolicy {
        pub fn lru() -> Self {
            Self
        }
    }
}

pub mod collections {
    use ::std::{
        collections::hash_map,
        hash::{BuildHasherDefault, DefaultHasher},
        ops::{Deref, DerefMut},
    };

    type Inner<K, V> = hash_map::HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

    /// In the same order each time, as loom demands.
    pub struct HashMap<K, V>(Inner<K, V>);

    impl<K, V> HashMap<K, V> {
        pub fn new() -> Self {
            Self(Inner::default())
        }
    }

    impl<K, V> Default for HashMap<K, V> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl<K, V> Deref for HashMap<K, V> {
        type Target = Inner<K, V>;

        fn deref(&self) -> &Self::Target {
            &self.0
        }
    }

    impl<K, V> DerefMut for HashMap<K, V> {
        fn deref_mut(&mut self) -> &mut Self::Target {
            &mut self.0
        }
    }
}

pub mod sync {
    pub use ::std::sync::{Arc, LazyLock, OnceLock, PoisonError, Weak};
    pub use loom::sync::{Mutex, MutexGuard};

    use ::std::{collections::BTreeMap, hash::Hash, time::Duration};

    use super::Register;

    pub mod atomic {
        /// Of the clock alone: all agree on the time.
        pub use ::std::sync::atomic::AtomicI64;
        pub use loom::sync::atomic::{AtomicBool, Ordering};

        use ::std::sync::{
            OnceLock,
            atomic::{
                self as real,
                Ordering::{Relaxed, SeqCst},
            },
        };
        use loom::sync::atomic::AtomicU64 as Checked;

        use crate::SETS_UP;

        /// Most of the thousands of counters that a store has are of no token that is explored, and
        /// clocks order nothing: such a counter is not loom's. It becomes one of loom's when it is raised in
        /// [`set_up`](crate::set_up), or read in an order. That is to happen before other threads are made.
        #[derive(Default)]
        pub struct AtomicU64(real::AtomicU64, OnceLock<Checked>);

        impl AtomicU64 {
            pub fn new(value: u64) -> Self {
                Self(real::AtomicU64::new(value), OnceLock::new())
            }

            pub(crate) fn touch(&self) -> &Checked {
                self.1.get_or_init(|| Checked::new(self.0.load(SeqCst)))
            }

            pub fn load(&self, order: Ordering) -> u64 {
                match self.1.get() {
                    None if order == Relaxed => self.0.load(order),
                    _ => self.touch().load(order),
                }
            }

            pub fn store(&self, value: u64, order: Ordering) {
                match self.1.get() {
                    None => self.0.store(value, order),
                    Some(checked) => checked.store(value, order),
                }
            }

            pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
                match self.1.get() {
                    None if !SETS_UP.get() => self.0.fetch_add(value, order),
                    _ => self.touch().fetch_add(value, order),
                }
            }

            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                change: impl FnMut(u64) -> Option<u64>,
            ) -> Result<u64, u64> {
                match self.1.get() {
                    None => self.0.fetch_update(set, fetch, change),
                    Some(checked) => checked.fetch_update(set, fetch, change),
                }
            }
        }
    }

    /// `moka::sync::Cache`, which evicts nothing by itself.
    pub struct Cache<K, V>(Register<BTreeMap<Vec<u8>, (K, V)>>);

    impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
        pub fn new(_: u64) -> Self {
            Self::builder()
        }

        pub fn builder() -> Self {
            Self(Register::new(BTreeMap::new()))
        }

        pub fn max_capacity(self, _: u64) -> Self {
            self
        }

        pub fn weigher(self, _: impl Fn(&K, &V) -> u32) -> Self {
            self
        }

        pub fn time_to_live(self, _: Duration) -> Self {
            self
        }

        pub fn time_to_idle(self, _: Duration) -> Self {
            self
        }

        pub fn eviction_policy(self, _: super::policy::EvictionPolicy) -> Self {
            self
        }

        pub fn build(self) -> Self {
            self
        }

        pub fn get(&self, key: &K) -> Option<V> {
            self.0.get().get(&name(key)).map(|(_, value)| value.clone())
        }

        pub fn contains_key(&self, key: &K) -> bool {
            self.get(key).is_some()
        }

        /// Whoever comes first makes the value that all get.
        pub fn get_with(&self, key: K, make: impl FnOnce() -> V) -> V {
            let known = self.get(&key);
            let name = name(&key);
            known.unwrap_or_else(|| {
                self.0.change(|it| it.entry(name).or_insert_with(|| (key, make())).1.clone())
            })
        }

        pub fn insert(&self, key: K, value: V) {
            self.0.change(|it| drop(it.insert(name(&key), (key, value))));
        }

        pub fn invalidate(&self, key: &K) {
            self.0.change(|it| drop(it.remove(&name(key))));
        }

        pub fn remove(&self, key: &K) -> Option<V> {
            let value = self.get(key);
            self.invalidate(key);
            value
        }

        /// Moka does it later: who relies on it at once is wrong.
        pub fn invalidate_all(&self) {}

        pub fn entry_count(&self) -> u64 {
            self.0.get().len() as u64
        }
    }

    impl<K: Clone, V: Clone> IntoIterator for &Cache<K, V> {
        type Item = (Arc<K>, V);
        type IntoIter = ::std::vec::IntoIter<Self::Item>;

        fn into_iter(self) -> Self::IntoIter {
            let entries = self.0.get().into_values().map(|(key, value)| (Arc::new(key), value));
            entries.collect::<Vec<_>>().into_iter()
        }
    }

    /// What a key feeds to a hasher.
    fn name(key: &impl Hash) -> Vec<u8> {
        struct Bytes(Vec<u8>);
        impl ::std::hash::Hasher for Bytes {
            fn finish(&self) -> u64 {
                0
            }

            fn write(&mut self, bytes: &[u8]) {
                self.0.extend(bytes);
            }
        }
        let mut bytes = Bytes(Vec::new());
        key.hash(&mut bytes);
        bytes.0
    }

    /// `tokio::sync::Semaphore` with room for all.
    pub struct Semaphore;

    pub struct OwnedSemaphorePermit;

    impl Semaphore {
        pub const MAX_PERMITS: usize = usize::MAX;

        pub fn new(_: usize) -> Self {
            Self
        }

        pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, ()> {
            Ok(OwnedSemaphorePermit)
        }
    }

    /// `tokio::sync::watch`.
    pub mod watch {
        use ::std::{
            future::poll_fn,
            mem,
            sync::Arc,
            task::{Poll, Waker},
        };
        use loom::sync::{Mutex, MutexGuard};

        struct State<T> {
            value: T,
            closed: bool,
            waiting: Vec<Waker>,
        }

        type Shared<T> = Arc<Mutex<State<T>>>;

        pub struct Sender<T>(Shared<T>);

        pub struct Receiver<T>(Shared<T>);

        pub struct Ref<'r, T>(MutexGuard<'r, State<T>>);

        impl<T> Sender<T> {
            pub fn receiver_count(&self) -> usize {
                Arc::strong_count(&self.0) - 1
            }
        }

        #[derive(Debug)]
        pub struct Closed;

        pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
            let state = State { value, closed: false, waiting: Vec::new() };
            let shared = Arc::new(Mutex::new(state));
            (Sender(shared.clone()), Receiver(shared))
        }

        impl<T> Sender<T> {
            pub fn send_replace(&self, value: T) -> T {
                self.change(|state| mem::replace(&mut state.value, value))
            }

            fn change<U>(&self, change: impl FnOnce(&mut State<T>) -> U) -> U {
                let (changed, waiting) = {
                    let mut state = self.0.lock().unwrap();
                    (change(&mut state), mem::take(&mut state.waiting))
                };
                waiting.into_iter().for_each(Waker::wake);
                changed
            }
        }

        impl<T> Drop for Sender<T> {
            fn drop(&mut self) {
                self.change(|state| state.closed = true);
            }
        }

        impl<T> Clone for Receiver<T> {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }

        impl<T> Receiver<T> {
            pub fn borrow(&self) -> Ref<'_, T> {
                Ref(self.0.lock().unwrap())
            }

            pub async fn wait_for(
                &mut self,
                mut enough: impl FnMut(&T) -> bool,
            ) -> Result<Ref<'_, T>, Closed> {
                let shared = &self.0;
                poll_fn(move |context| {
                    let mut state = shared.lock().unwrap();
                    if enough(&state.value) {
                        return Poll::Ready(Ok(Ref(state)));
                    }
                    if state.closed {
                        return Poll::Ready(Err(Closed));
                    }
                    state.waiting.push(context.waker().clone());
                    Poll::Pending
                })
                .await
            }
        }

        impl<T> ::std::ops::Deref for Ref<'_, T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0.value
            }
        }
    }
}
