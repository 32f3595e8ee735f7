//! All interleavings of what happens to one token at the same time, of the sources of `src/cache/`,
//! `src/lifecycle/` and `src/verifier/`.

extern crate tower_authlete_model as arc_swap;
extern crate tower_authlete_model as moka;
extern crate tower_authlete_model as std;
extern crate tower_authlete_model as tokio;
extern crate tower_authlete_model as tracing;

#[path = "../../../src/cache/mod.rs"]
#[allow(dead_code, unused_imports)]
mod cache;
#[path = "../../../src/clock.rs"]
#[allow(dead_code)]
mod clock;
mod extensions;
mod flights;
mod fronts;
#[path = "../../../src/lifecycle/mod.rs"]
#[allow(dead_code, unused_imports, unused_variables)]
mod lifecycle;
#[path = "../../../src/observe/log.rs"]
#[allow(dead_code)]
mod observe;
#[allow(dead_code)]
mod rest;
mod rotations;
#[path = "../../../src/single_flight.rs"]
#[allow(dead_code)]
mod single_flight;
mod verifier;

use std::{
    hash::{BuildHasher, RandomState},
    io::Write,
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use siphasher::sip128::SipHasher24;

use crate::cache::{Binding, Key, KeySpace, Limits, MemoryCache};
use clock::Moment;
use rest::{api, rejection, resilience, token, verdict};
use token::{Facts, TokenInfo};

const NOW: Moment = Moment { wall: 0, monotonic: 0 };
const TOKEN: &str = "token";
const AGE: Duration = Duration::from_secs(60);

/// Another token that has the same place at hand.
static NEIGHBOUR: LazyLock<String> = LazyLock::new(|| {
    let random = || RandomState::new().hash_one(0);
    let tagger = SipHasher24::new_with_keys(random(), random());
    let place = |token: &str| tagger.hash(token.as_bytes()).h1 % 1024;
    (0..).map(|n: u64| n.to_string()).find(|it| place(it) == place(TOKEN)).unwrap()
});

fn memory() -> MemoryCache {
    let cache = MemoryCache::new(Limits {
        max_age: AGE,
        max_entries: 10,
        negative_max_age: AGE,
        negative_max_entries: 10,
        stale: Duration::ZERO,
        ahead: None,
    });
    // What they use is touched before other threads are made.
    put(&cache, &NEIGHBOUR, 0, NOW);
    assert_eq!(kept(&cache, &NEIGHBOUR, NOW), Some(0));
    cache.remove(&key(&NEIGHBOUR));
    api::VALUES.into_iter().for_each(|token| cache.remove(&key(token)));
    cache
}

fn key(token: &str) -> Key {
    KeySpace::new(&[0; 32], "introspection", "access").key(token)
}

fn put(cache: &MemoryCache, token: &str, asked: u64, now: Moment) {
    let expires_at = std::time::SystemTime::UNIX_EPOCH + 2 * AGE;
    let info = TokenInfo { facts: Facts { asked, ..Facts::default() }, expires_at };
    cache.put(key(token), Binding::BEARER, &Ok(info), now);
}

/// What a request finds of a good token, by which version.
fn kept(cache: &MemoryCache, token: &str, now: Moment) -> Option<u64> {
    find(cache, token, now).map(|answer| answer.unwrap().facts.asked)
}

/// As in `Verifier::look_up`.
fn find(cache: &MemoryCache, token: &str, now: Moment) -> Option<verdict::Verdict> {
    let tag = cache.tag(token);
    let at_hand = cache.at_hand(tag, Binding::BEARER, now).map(|(_, known)| known);
    let known = at_hand.or_else(|| cache.find(tag, &key(token), Binding::BEARER, now));
    known.map(|known| known.answer)
}

/// What comes of it without waiting.
fn at_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
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
