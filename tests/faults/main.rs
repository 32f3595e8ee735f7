//! Faults between the layer and Authlete, and the response of the layer to each: [`matrix`] lists them.
//! Authlete is a server of raw bytes ([`upstream`]), the clock is frozen unless a test moves it, and timeouts
//! elapse in tokio's paused time.
#![cfg(all(feature = "axum", feature = "rustls"))]

mod certificates;
mod matrix;
mod secrets;
mod setup;
mod upstream;
mod wire;

use std::time::Duration;

use crate::{
    matrix::{Cell, Expected, MINUTE, Row, rows},
    setup::Setup,
};

/// Runs each row on its own, and reports all that fail.
fn each_row(check: impl AsyncFn(&Row) -> Result<(), String>) {
    let failures: Vec<_> = rows().iter().filter_map(|row| fails(row, &check)).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn fails(row: &Row, check: &impl AsyncFn(&Row) -> Result<(), String>) -> Option<String> {
    // Names the row of a panic.
    println!("{}", row.name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failure = runtime.block_on(check(row)).err()?;
    Some(format!("{}: {failure}", row.name))
}

fn compare(when: &str, expected: &Expected, seen: &Cell) -> Result<(), String> {
    if *expected == *seen {
        return Ok(());
    }
    Err(format!("{when}\n  expected {expected:?}\n  saw      {seen:?}"))
}

/// After the fault has ended and the cache has expired, a request succeeds.
async fn recovers(setup: &Setup) -> Result<(), String> {
    setup.outdate();
    compare("recovery", &matrix::GOOD, &setup.look().await)
}

#[test]
fn each_fault_on_a_miss() {
    each_row(async |row| {
        let mut setup = Setup::new(row).await;
        setup.begin_fault().await;
        compare("cold", &row.cold, &setup.look().await)?;
        setup.end_fault();
        // Only a verdict about the token is cached.
        let after = if row.is_kept { row.cold.calls(0) } else { matrix::GOOD };
        compare("right after it", &after, &setup.look().await)?;
        recovers(&setup).await
    });
}

#[test]
fn each_fault_on_a_hit() {
    each_row(async |row| {
        let mut setup = Setup::new(row).await;
        compare("before it", &matrix::GOOD, &setup.look().await)?;
        setup.begin_fault().await;
        compare("cached", &row.cached, &setup.look().await)?;
        setup.end_fault();
        recovers(&setup).await
    });
}

#[test]
fn each_fault_when_the_entry_has_expired() {
    each_row(async |row| {
        let mut setup = Setup::new(row).await;
        compare("before it", &matrix::GOOD, &setup.look().await)?;
        setup.outdate();
        setup.begin_fault().await;
        compare("out of date", &row.outdated, &setup.look().await)?;
        setup.end_fault();
        recovers(&setup).await
    });
}

#[test]
fn each_fault_when_stale_facts_may_serve() {
    each_row(async |row| {
        let mut setup = Setup::allowing_stale(row, Duration::from_secs(2 * MINUTE)).await;
        compare("before it", &matrix::GOOD, &setup.look().await)?;
        setup.outdate();
        setup.begin_fault().await;
        compare("stale allowed", &row.stale, &setup.look().await)?;
        setup.end_fault();
        recovers(&setup).await
    });
}
