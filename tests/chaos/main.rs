//! Everything at once, at random: many clients with many tokens, layers of several settings, and an
//! Authlete that fails. [`model`] knows what is true of each token, [`driver`] does something and looks
//! whether each answer fits. A seed decides what is done; time is a clock that the driver moves.
#![cfg(all(feature = "emulator", feature = "axum"))]

mod driver;
mod log;
mod model;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    driver::{Driver, Tally},
    log::Log,
    world::Pace,
};

const SEEDS: u64 = 40;
const OPERATIONS: u64 = 400;
const PACE: Pace = Pace { second: Duration::from_secs(1), frozen: true };

/// What is done with a seed, and what is wrong with it.
fn run(seed: u64, operations: u64) -> Result<Tally, String> {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut driver = Driver::new(seed, PACE).await;
            for _ in 0..operations {
                driver.operate().await;
                driver.check()?;
                if let Some(leak) = log.leak() {
                    return Err(driver.fails(&format!("a secret was logged: {leak}")));
                }
            }
            driver.settle().await;
            driver.check()?;
            Ok(driver.tally())
        })
    }));
    assert!(log.lines() > 0, "nothing was logged");
    outcome.unwrap_or_else(|_| Err("panicked".into()))
}

fn from_env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_no_answer_is_wrong() {
    let operations = from_env("CHAOS_OPERATIONS").unwrap_or(OPERATIONS);
    let seeds = match from_env("CHAOS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("CHAOS_SEEDS").unwrap_or(SEEDS),
    };
    let (next, total) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    match run(seed, operations) {
                        Ok(tally) => total.lock().unwrap().add(&tally),
                        Err(problem) => failures.lock().unwrap().push(format!(
                            "seed {seed}: {problem}\nrun it again: CHAOS_SEED={seed} \
                             CHAOS_OPERATIONS={operations} cargo test --all-features --test chaos"
                        )),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
    let total = total.into_inner().unwrap();
    println!("{total:#?}");
    if seeds.end - seeds.start >= SEEDS && operations >= OPERATIONS {
        let rules = total.rules;
        for (rule, times) in [
            ("ended", rules.ended),
            ("expired", rules.expired),
            ("narrowed", rules.narrowed),
            ("good", rules.good),
            ("unknown", rules.unknown),
            ("503", total.unavailable),
            ("the limit is reached", total.limit_reached),
        ] {
            assert!(times > 30, "{rule}: {times}");
        }
    }
}
