//! Servers and processes that tests start on the loopback interface, and what can go wrong with them: each
//! has a port of its own, keeps its files in a temporary folder, and ends with its value, also in a panic.
//!
//! They may be used with tokio's time paused: what waits for a server blocks a thread of its own meanwhile.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod child;
mod cluster;
mod port;
mod process;
#[path = "../programs.rs"]
mod programs;
mod proxy;
mod redis;
mod sentinel;

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    child::Child,
    cluster::Cluster,
    port::Port,
    process::{Process, example},
    proxy::{Fault, Proxy, Towards},
    redis::{Options, Redis},
    sentinel::Sentinel,
};

/// For how long anything is waited for. Nothing takes as long, unless it never comes.
const BOUND: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
///
/// # Panics
/// With what was told last, if there is no answer in a minute.
pub(crate) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(reason) => assert!(began.elapsed() < BOUND, "{reason}"),
        }
        blocking(|| thread::sleep(Duration::from_millis(5))).await;
    }
}

/// Runs it in a thread of its own, which keeps tokio's paused time from being advanced meanwhile.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(run).await {
        Ok(value) => value,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
