//! All interleavings of what happens to one token at the same time, of the sources of `src/store/`,
//! `src/verify/` and `src/lifecycle/`.

extern crate tower_authlete_model as arc_swap;
extern crate tower_authlete_model as moka;
extern crate tower_authlete_model as std;
extern crate tower_authlete_model as tokio;
extern crate tower_authlete_model as tracing;

mod authlete;
#[path = "../../../src/cache.rs"]
#[allow(dead_code)]
mod cache;
#[path = "../../../src/clock.rs"]
#[allow(dead_code)]
mod clock;
mod extension;
mod hot_cache;
mod in_flight;
#[allow(dead_code, unused_imports)]
mod introspect;
mod issue;
mod layer;
mod lease;
#[path = "../../../src/lifecycle/mod.rs"]
#[allow(dead_code, unused_imports, unused_variables)]
mod lifecycle;
#[path = "../../../src/observe/mod.rs"]
#[allow(dead_code)]
mod observe;
#[allow(dead_code)]
mod rest;
mod rotation;
#[path = "../../../src/single_flight.rs"]
#[allow(dead_code)]
mod single_flight;
#[path = "../../../src/store/mod.rs"]
#[allow(dead_code, unused_imports)]
mod store;
mod update;
#[path = "../../../src/verdict.rs"]
#[allow(dead_code, unused_variables)]
mod verdict;
#[path = "../../../src/verify/mod.rs"]
#[allow(dead_code)]
mod verify;

use std::{
    io::Write,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rest::{api, precheck, proof, rejection, resilience, token};

const TOKEN: &str = "token";

/// For how long something is cached.
const AGE: Duration = Duration::from_secs(60);

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
    let began = std::time::Instant::now();
    builder.check(move || {
        counted.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        run();
    });
    let runs = runs.load(core::sync::atomic::Ordering::Relaxed);
    let bound = preemptions.map_or("all".into(), |most| format!("at most {most} preemptions"));
    let took = began.elapsed().as_millis();
    // Not captured by the test harness.
    writeln!(std::io::stderr(), "{name}: {runs} interleavings ({bound}), {took} ms").unwrap();
}
