//! Random operations of many clients with many tokens on layers of many settings, in front of an Authlete
//! that fails at times. `simulation/model.rs` is the reference model of each token,
//! `simulation/driver.rs` performs operations, and `simulation/answers.rs` compares each response with the
//! model. A seed determines the environment and the operations. Time is frozen unless the driver moves it.
#![cfg(all(feature = "axum", feature = "dpop", feature = "emulator", feature = "session"))]

mod simulation;

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

use crate::simulation::{Driver, Log, Tally, TimeScale};

const SEEDS: u64 = 40;
const OPERATIONS: u64 = 400;
const TIME_SCALE: TimeScale =
    TimeScale { second: Duration::from_secs(1), frozen: true, deadline: Duration::from_secs(3) };

/// Runs a seed. The error is the first violation of the model.
fn run(seed: u64, operations: u64) -> Result<Tally, String> {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    // While a blocking task runs, tokio does not advance its paused clock.
    let (keep, blocked) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || blocked.recv());
    let outcome =
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(simulate(seed, operations, &log))));
    drop(keep);
    assert!(log.lines() > 0, "nothing was logged");
    outcome.unwrap_or_else(|_| Err("panicked".into()))
}

async fn simulate(seed: u64, operations: u64, log: &Log) -> Result<Tally, String> {
    let mut driver = Driver::new(seed, TIME_SCALE, log.clone()).await;
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
fn every_response_agrees_with_the_model() {
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
