//! Everything at once, at random: many clients with many tokens, layers of many settings, and an
//! Authlete that fails. `play/model.rs` knows what is true of each token, `play/driver.rs` does something
//! and `play/requests.rs` looks whether each answer fits. A seed decides how the world is and what is
//! done; time stands still unless the driver moves it.
#![cfg(all(feature = "axum", feature = "dpop", feature = "emulator", feature = "session"))]

mod play;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::play::{Driver, Log, Pace, Tally};

const SEEDS: u64 = 40;
const OPERATIONS: u64 = 400;
const PACE: Pace =
    Pace { second: Duration::from_secs(1), frozen: true, deadline: Duration::from_secs(3) };

/// What is done with a seed, and what is wrong with it.
fn run(seed: u64, operations: u64) -> Result<Tally, String> {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    // While something blocks, tokio does not move its clock by itself.
    let (keep, blocked) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || blocked.recv());
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(play(seed, operations, &log))));
    drop(keep);
    assert!(log.lines() > 0, "nothing was logged");
    outcome.unwrap_or_else(|_| Err("panicked".into()))
}

async fn play(seed: u64, operations: u64, log: &Log) -> Result<Tally, String> {
    let mut driver = Driver::new(seed, PACE, log.clone()).await;
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
        for (occasion, times) in total.occasions() {
            assert!(times > 30, "{occasion}: {times}");
        }
    }
}
