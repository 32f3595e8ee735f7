//! Everything at once, at random, for as long as one likes: what `tests/chaos` does with a clock of its
//! own, in real time. A second of the layers' settings is 50 ms here, so that tokens expire and answers
//! get old. It fails if any decision was wrong.
//!
//! ```sh
//! cargo run --release --example soak --features dpop,emulator,session -- --minutes 10 --seed 1
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

#[path = "../tests/chaos/simulation/mod.rs"]
mod simulation;

use crate::simulation::{Driver, Log, Tally, TimeScale};

const TIME_SCALE: TimeScale = TimeScale {
    second: Duration::from_millis(50),
    frozen: false,
    deadline: Duration::from_secs(2),
};

/// How many environments there are at a time.
const ENVIRONMENTS: usize = 12;

/// After so many operations an environment ends, and another one begins: what is left of it is a leak.
const LAP: u64 = 300;

/// That many environments never end, so that what a layer gathers shows, too.
const LASTING: usize = 4;

/// How often it is looked at what the process uses, at least so many times.
const LOOKS: u32 = 7;

#[derive(Parser)]
struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// What is done is decided by it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How much is done a second, at most.
    #[arg(long, default_value_t = 500)]
    rate: u32,
}

/// What all environments did so far.
#[derive(Default)]
struct Sum {
    environments: [Mutex<Tally>; ENVIRONMENTS],
    problems: Mutex<Vec<String>>,
    next: AtomicU64,
}

impl Sum {
    fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.environments.iter().for_each(|environment| sum.add(&environment.lock().unwrap()));
        sum
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { minutes, seed, rate } = Arguments::parse();
    let log = Log::default();
    let subscriber = log.subscriber();
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        unreachable!("nobody else sets one");
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(minutes * 60.0);
    let sum = Arc::new(Sum { next: AtomicU64::new(seed), ..Sum::default() });
    let pause = Duration::from_secs(ENVIRONMENTS as u64) / rate.max(1);
    let environments: Vec<_> = (0..ENVIRONMENTS)
        .map(|environment| tokio::spawn(live(sum.clone(), log.clone(), environment, end, pause)))
        .collect();

    // The first connections are made before anything is measured.
    let (warm, span) = ((end - begin) / 20, Duration::from_secs(300).min((end - begin) / LOOKS));
    let mut looks = 0;
    let bar = ProgressBar::new((end - begin).as_millis() as u64);
    bar.set_style(style());
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(250).min(end - Instant::now())).await;
        bar.set_position(begin.elapsed().as_millis() as u64);
        let tally = sum.tally();
        bar.set_message(format!("{} requests, {} wrong", tally.requests, tally.wrong));
        for problem in sum.problems.lock().unwrap().drain(..) {
            bar.suspend(|| eprintln!("{problem}\n"));
        }
        let over = Instant::now() >= end;
        if over || begin.elapsed() >= warm.max(span * looks) {
            let row = Usage::now(begin, &tally);
            bar.suspend(|| row.print(looks == 0));
            looks += 1;
        }
    }
    let mut stuck = 0;
    for environment in environments {
        stuck += usize::from(environment.await.is_err());
    }
    bar.finish_and_clear();
    report(&sum, &log, stuck)
}

/// Lives in one environment after another.
async fn live(sum: Arc<Sum>, log: Log, environment: usize, end: Instant, pause: Duration) {
    let mut past = Tally::default();
    while Instant::now() < end {
        let seed = sum.next.fetch_add(1, Ordering::Relaxed);
        let mut driver = Driver::new(seed, TIME_SCALE, log.clone()).await;
        let mut ticks = tokio::time::interval(pause.max(Duration::from_micros(1)));
        let lap = if environment < LASTING { u64::MAX } else { LAP };
        for operation in 1..=lap {
            ticks.tick().await;
            driver.operate().await;
            let last = operation == lap || Instant::now() >= end;
            if last {
                driver.settle().await;
            }
            let outcome = driver.check();
            let mut tally = past;
            tally.add(&driver.tally());
            *sum.environments[environment].lock().unwrap() = tally;
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
    at: Duration,
    requests: u64,
    wrong: u64,
    /// MiB.
    resident: Option<f64>,
    descriptors: Option<usize>,
    /// The time that the processor worked for it (s).
    worked: Option<f64>,
}

impl Usage {
    /// Known on Linux only.
    fn now(begin: Instant, tally: &Tally) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // utime and stime, in hundredths of a second.
        let ticks =
            stat.rsplit(')').next().map(|fields| fields.split_whitespace().skip(11).take(2));
        let worked = ticks.and_then(|ticks| ticks.map(|it| it.parse::<f64>().ok()).sum());
        Self {
            at: begin.elapsed(),
            requests: tally.requests,
            wrong: tally.wrong,
            resident: kib.map(|kib| kib / 1024.0),
            descriptors,
            worked: worked.map(|ticks: f64| ticks / 100.0),
        }
    }

    /// At once, so that it can be read while it runs.
    fn print(&self, first: bool) {
        if first {
            println!(
                "{:>8} {:>12} {:>12} {:>12} {:>12} {:>12}",
                "minute", "requests", "wrong", "RSS (MiB)", "descriptors", "CPU (s)"
            );
        }
        let or_unknown = |known: Option<String>| known.unwrap_or_else(|| "?".into());
        let Self { at, requests, wrong, resident, descriptors, worked } = self;
        let minute = at.as_secs_f64() / 60.0;
        let resident = or_unknown(resident.map(|mib| format!("{mib:.1}")));
        let descriptors = or_unknown(descriptors.map(|count| count.to_string()));
        let worked = or_unknown(worked.map(|seconds| format!("{seconds:.0}")));
        println!(
            "{minute:>8.1} {requests:>12} {wrong:>12} {resident:>12} {descriptors:>12} {worked:>12}"
        );
    }
}

fn report(sum: &Sum, log: &Log, stuck: usize) -> ExitCode {
    let tally = sum.tally();
    let mut problems = std::mem::take(&mut *sum.problems.lock().unwrap());
    problems.extend(log.leak().map(|leak| format!("a secret was logged: {leak}")));
    if stuck > 0 {
        problems.push(format!("{stuck} environments panicked"));
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
        println!("{name:<20} {count:>12}");
    }
    println!("\nwhat was looked at");
    for (occasion, times) in tally.occasions() {
        println!("  {occasion:<18} {times:>12}");
    }
    for problem in &problems {
        eprintln!("\n{problem}");
    }
    if problems.is_empty() && tally.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
