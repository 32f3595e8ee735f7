//! All that can go wrong between the layer and Authlete, and what a client then sees: [`matrix`]
//! lists it. Authlete is a server of bytes ([`upstream`]), time is a clock that stands still unless it
//! is moved, and what has to time out does so in tokio's paused time.
#![cfg(all(feature = "axum", feature = "rustls"))]

mod certificates;
mod matrix;
mod scene;
mod secrets;
mod upstream;
mod wire;

use std::time::Duration;

use crate::{
    matrix::{Cell, Expected, MINUTE, Row, rows},
    scene::Scene,
};

/// Runs each row by itself, and tells all that fail.
fn each_row(check: impl AsyncFn(&Row) -> Result<(), String>) {
    let failures: Vec<_> = rows().iter().filter_map(|row| fails(row, &check)).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

fn fails(row: &Row, check: &impl AsyncFn(&Row) -> Result<(), String>) -> Option<String> {
    // Tells which row it was if anything panics.
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

/// Once all is well and nothing that is known is valid any more, a request succeeds.
async fn recovers(scene: &Scene) -> Result<(), String> {
    scene.outdate();
    compare("recovery", &matrix::GOOD, &scene.look().await)
}

#[test]
fn nothing_is_known_of_the_token() {
    each_row(async |row| {
        let mut scene = Scene::new(row).await;
        scene.begin_fault().await;
        compare("cold", &row.cold, &scene.look().await)?;
        scene.end_fault();
        // Only a verdict on the token is remembered.
        let after = if row.is_kept { row.cold.calls(0) } else { matrix::GOOD };
        compare("right after it", &after, &scene.look().await)?;
        recovers(&scene).await
    });
}

#[test]
fn a_good_answer_is_known_and_valid() {
    each_row(async |row| {
        let mut scene = Scene::new(row).await;
        compare("before it", &matrix::GOOD, &scene.look().await)?;
        scene.begin_fault().await;
        compare("cached", &row.cached, &scene.look().await)?;
        scene.end_fault();
        recovers(&scene).await
    });
}

#[test]
fn a_good_answer_that_is_out_of_date_is_no_better_than_none() {
    each_row(async |row| {
        let mut scene = Scene::new(row).await;
        compare("before it", &matrix::GOOD, &scene.look().await)?;
        scene.outdate();
        scene.begin_fault().await;
        compare("out of date", &row.outdated, &scene.look().await)?;
        scene.end_fault();
        recovers(&scene).await
    });
}

#[test]
fn a_good_answer_that_is_out_of_date_serves_while_authlete_cannot_be_asked_if_that_is_allowed() {
    each_row(async |row| {
        let mut scene = Scene::allowing_stale(row, Duration::from_secs(2 * MINUTE)).await;
        compare("before it", &matrix::GOOD, &scene.look().await)?;
        scene.outdate();
        scene.begin_fault().await;
        compare("stale allowed", &row.stale, &scene.look().await)?;
        scene.end_fault();
        recovers(&scene).await
    });
}
