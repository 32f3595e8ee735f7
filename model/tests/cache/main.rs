//! All interleavings of what happens to one token at the same time, of the sources of `src/cache/`.

extern crate tower_authlete_model as arc_swap;
extern crate tower_authlete_model as moka;
extern crate tower_authlete_model as std;
extern crate tower_authlete_model as tokio;

#[path = "../../../src/cache/mod.rs"]
#[allow(dead_code, unused_imports)]
mod cache;
mod flights;
mod fronts;
mod verifier;

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::cache::{Holder, Key, KeySpace, Limits, MemoryCache};

mod clock {
    use std::time::SystemTime;

    pub(crate) fn millis(time: SystemTime) -> u64 {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
    }
}

mod rejection {
    /// Nothing is known.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(crate) struct Rejection;
}

mod token {
    use crate::cache::Thumbprint;

    #[derive(Debug, Clone, Copy, PartialEq)]
    pub(crate) struct TokenInfo {
        /// By which version of what Authlete knows.
        pub(crate) said: u64,
    }

    impl TokenInfo {
        pub(crate) fn is_past(&self, _: u64) -> bool {
            false
        }

        pub(crate) fn stale(self) -> Self {
            self
        }

        pub(crate) fn is_bound_to(&self, _: Option<&Thumbprint>) -> bool {
            true
        }

        pub(crate) fn size(&self) -> usize {
            1
        }

        pub(crate) fn interned(self, _: &Interner) -> Self {
            self
        }
    }

    pub(crate) struct Interner;

    impl Interner {
        pub(crate) fn new() -> Self {
            Self
        }
    }
}

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const AGE: Duration = Duration::from_secs(60);

fn memory() -> MemoryCache {
    let cache = MemoryCache::new(Limits {
        max_age: AGE,
        max_entries: 10,
        negative_max_age: AGE,
        negative_max_entries: 10,
        stale: Duration::ZERO,
    });
    // What is made when it is touched is to be made before other threads are.
    let key = key("token");
    cache.put(key, Holder::BEARER, &Ok(token::TokenInfo { said: 0 }), NOW);
    assert_eq!(kept(&cache, &key, NOW), Some(0));
    cache.remove(&key);
    cache
}

fn key(token: &str) -> Key {
    KeySpace::new(&[0; 32], "introspection", "access").key(token)
}

/// What is kept of a good token, by which version.
fn kept(cache: &MemoryCache, key: &Key, now: SystemTime) -> Option<u64> {
    cache.get(key, Holder::BEARER, now).map(|answer| answer.unwrap().said)
}

/// Runs all interleavings, with at most so many threads stopped where they could go on, and tells how
/// many there were.
fn explore(name: &str, preemptions: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    let runs = Arc::new(core::sync::atomic::AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        run();
    });
    let runs = runs.load(core::sync::atomic::Ordering::Relaxed);
    let bound = preemptions.map_or("all".into(), |most| format!("at most {most} preemptions"));
    // Not captured by the test harness.
    writeln!(std::io::stderr(), "{name}: {runs} interleavings ({bound})").unwrap();
}
