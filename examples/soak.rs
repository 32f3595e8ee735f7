//! Everything at once, at random, for as long as one likes: what `tests/chaos` does with a clock of its
//! own, in real time. A second of the layers' settings is 50 ms here, so that tokens expire and answers
//! get old. It fails if any decision was wrong.
//!
//! ```sh
//! cargo run --release --example soak --features emulator -- --minutes 10 --seed 1
//! ```

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

#[path = "../tests/chaos/driver.rs"]
mod driver;
#[path = "../tests/chaos/log.rs"]
mod log;
#[path = "../tests/chaos/model.rs"]
mod model;
#[path = "../tests/chaos/world.rs"]
mod world;

use crate::{
    driver::{Driver, Tally},
    log::Log,
    world::Pace,
};

const PACE: Pace = Pace { second: Duration::from_millis(50), frozen: false };

/// How many worlds there are at a time.
const WORLDS: usize = 12;

/// After so many operations a world ends, and another one begins: what is left of it is a leak.
const LAP: u64 = 300;

#[derive(Parser)]
struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// What is done is decided by it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What all worlds did so far.
#[derive(Default)]
struct Sum {
    worlds: [Mutex<Tally>; WORLDS],
    problems: Mutex<Vec<String>>,
    next: AtomicU64,
}

impl Sum {
    fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.worlds.iter().for_each(|world| sum.add(&world.lock().unwrap()));
        sum
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { minutes, seed } = Arguments::parse();
    let log = Log::default();
    let subscriber = log.subscriber();
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        unreachable!("nobody else sets one");
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(minutes * 60.0);
    let sum = Arc::new(Sum { next: AtomicU64::new(seed), ..Sum::default() });
    let worlds: Vec<_> =
        (0..WORLDS).map(|world| tokio::spawn(live(sum.clone(), world, end))).collect();

    // The first connections are made before anything is measured.
    tokio::time::sleep((end - begin) / 20).await;
    let mut usage = vec![("beginning", Usage::now())];
    let bar = ProgressBar::new((end - begin).as_millis() as u64);
    bar.set_style(style());
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(250).min(end - Instant::now())).await;
        bar.set_position(begin.elapsed().as_millis() as u64);
        let tally = sum.tally();
        bar.set_message(format!("{} requests, {} wrong", tally.requests, tally.wrong));
        if usage.len() == 1 && begin.elapsed() > (end - begin) / 2 {
            usage.push(("middle", Usage::now()));
        }
    }
    usage.push(("end", Usage::now()));
    let mut stuck = 0;
    for world in worlds {
        stuck += usize::from(world.await.is_err());
    }
    bar.finish_and_clear();
    report(&sum, &usage, &log, stuck)
}

/// Lives in one world after another.
async fn live(sum: Arc<Sum>, world: usize, end: Instant) {
    let mut past = Tally::default();
    while Instant::now() < end {
        let seed = sum.next.fetch_add(1, Ordering::Relaxed);
        let mut driver = Driver::new(seed, PACE).await;
        for operation in 1..=LAP {
            driver.operate().await;
            let last = operation == LAP || Instant::now() >= end;
            if last {
                driver.settle().await;
            }
            let outcome = driver.check();
            let mut tally = past;
            tally.add(&driver.tally());
            *sum.worlds[world].lock().unwrap() = tally;
            if let Err(problem) = &outcome {
                sum.problems.lock().unwrap().push(format!("seed {seed}: {problem}"));
            }
            if last || outcome.is_err() {
                break;
            }
        }
        past.add(&driver.tally());
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} % {eta} left, {msg}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// What the process uses.
struct Usage {
    /// MiB.
    resident: Option<f64>,
    descriptors: Option<usize>,
}

impl Usage {
    /// Known on Linux only.
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        Self { resident: kib.map(|kib| kib / 1024.0), descriptors }
    }
}

fn report(sum: &Sum, usage: &[(&str, Usage)], log: &Log, stuck: usize) -> ExitCode {
    let tally = sum.tally();
    let mut problems = sum.problems.lock().unwrap().clone();
    problems.extend(log.leak().map(|leak| format!("a secret was logged: {leak}")));
    if stuck > 0 {
        problems.push(format!("{stuck} worlds panicked"));
    }
    for (name, count) in [
        ("operations", tally.operations),
        ("requests", tally.requests),
        ("  accepted", tally.accepted),
        ("  503", tally.unavailable),
        ("calls", tally.calls),
        ("lines logged", log.lines()),
        ("wrong decisions", tally.wrong),
    ] {
        println!("{name:<16} {count:>12}");
    }
    println!("\n{:<16} {:>12} {:>12}", "", "RSS (MiB)", "descriptors");
    let or_unknown = |known: Option<String>| known.unwrap_or_else(|| "?".into());
    for (when, usage) in usage {
        let resident = or_unknown(usage.resident.map(|mib| format!("{mib:.1}")));
        let descriptors = or_unknown(usage.descriptors.map(|count| count.to_string()));
        println!("{when:<16} {resident:>12} {descriptors:>12}");
    }
    for problem in &problems {
        eprintln!("\n{problem}");
    }
    if problems.is_empty() && tally.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
