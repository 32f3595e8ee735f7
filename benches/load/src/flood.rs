//! Good requests, while others come with made-up tokens.

use std::{
    fmt,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use http::StatusCode;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tower::{Layer, Service, service_fn};
use tower_authlete::AuthLayer;

use crate::{
    BoxError,
    authority::{MAX_AGE, handler, request, request_with, warm_up},
    cores::{Cores, stay_on},
    figures::Figures,
    upstream::{BAD, Upstream},
};

/// How many good tokens there are.
const GOOD: u64 = 1000;

/// How many good requests are made beforehand.
const REQUESTS: usize = 1000;

/// How often a part of the flood comes.
const TICK: Duration = Duration::from_millis(1);

/// How long a turn is, and how many there are.
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    pub time: Duration,
}

/// Good requests in quiet and in a flood.
#[derive(Default)]
pub struct Flood {
    quiet: Turns,
    flooded: Turns,
    came: Figures,
    calls: Figures,
    unauthorized: u64,
    refused: u64,
    good: u64,
    seconds: f64,
}

/// Latencies of good requests (ns).
#[derive(Default)]
struct Turns {
    median: Figures,
    p99: Figures,
}

/// How many requests with made-up tokens were answered, and how.
#[derive(Default)]
struct Answers {
    unauthorized: AtomicU64,
    refused: AtomicU64,
    otherwise: AtomicU64,
}

impl Flood {
    /// So many made-up tokens a second, no two the same, and none a second, in turns. Good requests have
    /// a core of their own; the flood and the server that is asked share another.
    ///
    /// # Errors
    /// If a good request is refused or leads to a call, or a bad one is let through.
    pub fn run(plan: Plan, rate: u32, cores: Cores) -> Result<Self, BoxError> {
        let beside = Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(move || stay_on(cores.client))
            .enable_all()
            .build()?;
        stay_on(cores.server);
        let upstream = beside.block_on(Upstream::start())?;
        let layer = AuthLayer::builder(upstream.authlete()?).max_age(MAX_AGE).build()?;
        let warm = layer.clone();
        beside.block_on(async move { warm_up(&warm, 0..GOOD).await })?;
        let asked = upstream.calls_for_good();
        let mut turns = Self::default();
        for round in 0..=plan.rounds {
            let quiet = good(&layer, plan.time)?;
            let (answers, before) = (Arc::new(Answers::default()), upstream.calls_for_bad());
            let (start, ended) = (Instant::now(), Arc::new(AtomicBool::new(false)));
            let flood = flood(layer.clone(), rate, answers.clone(), ended.clone());
            let flood = beside.spawn(flood);
            let flooded = good(&layer, plan.time)?;
            ended.store(true, Ordering::Relaxed);
            beside.block_on(flood)??;
            // The caches get used to it first.
            if round > 0 {
                let calls = upstream.calls_for_bad() - before;
                turns.add(&quiet, &flooded, &answers, calls, start.elapsed())?;
            }
        }
        if upstream.calls_for_good() != asked {
            return Err("a good token was evicted".into());
        }
        Ok(turns)
    }

    fn add(
        &mut self,
        quiet: &Histogram<u64>,
        flooded: &Histogram<u64>,
        answers: &Answers,
        calls: u64,
        time: Duration,
    ) -> Result<(), BoxError> {
        let [unauthorized, refused, otherwise] =
            [&answers.unauthorized, &answers.refused, &answers.otherwise]
                .map(|it| it.load(Ordering::Relaxed));
        if otherwise > 0 {
            return Err(format!("{otherwise} made-up tokens got neither 401 nor 503").into());
        }
        self.quiet.add(quiet);
        self.flooded.add(flooded);
        self.came.push((unauthorized + refused) as f64 / time.as_secs_f64());
        self.calls.push(calls as f64 / time.as_secs_f64());
        self.unauthorized += unauthorized;
        self.refused += refused;
        self.good += flooded.len();
        self.seconds += time.as_secs_f64();
        Ok(())
    }
}

impl Turns {
    fn add(&mut self, latencies: &Histogram<u64>) {
        self.median.push(latencies.value_at_quantile(0.5) as f64);
        self.p99.push(latencies.value_at_quantile(0.99) as f64);
    }
}

/// Good requests, one after another for so long, in this thread.
fn good(layer: &AuthLayer, time: Duration) -> Result<Histogram<u64>, BoxError> {
    let (mut latencies, mut random) = (Histogram::new(3)?, SmallRng::seed_from_u64(GOOD));
    let mut service = layer.layer(service_fn(handler));
    let runtime = Builder::new_current_thread().build()?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        let requests: Vec<_> =
            (0..REQUESTS).map(|_| request(random.random_range(0..GOOD))).collect();
        runtime.block_on(async {
            for request in requests {
                let start = Instant::now();
                let response = black_box(service.call(request).await?);
                let latency = start.elapsed();
                if !response.status().is_success() {
                    return Err(format!("a good token got {}", response.status()).into());
                }
                latencies.record(u64::try_from(latency.as_nanos())?)?;
            }
            Ok::<_, BoxError>(())
        })?;
    }
    Ok(latencies)
}

/// So many made-up tokens a second until it has ended, and all of them are answered.
async fn flood(
    layer: AuthLayer,
    rate: u32,
    answers: Arc<Answers>,
    ended: Arc<AtomicBool>,
) -> Result<(), BoxError> {
    let (mut ticks, mut tasks) = (interval(TICK), JoinSet::new());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (start, mut sent) = (Instant::now(), 0);
    while !ended.load(Ordering::Relaxed) {
        ticks.tick().await;
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        for _ in sent..due {
            tasks.spawn(bad(layer.clone(), answers.clone()));
        }
        sent = due;
        while let Some(task) = tasks.try_join_next() {
            task??;
        }
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}

async fn bad(layer: AuthLayer, answers: Arc<Answers>) -> Result<(), BoxError> {
    let token = format!("{BAD}{:032x}", rand::random::<u128>());
    let response = layer.layer(service_fn(handler)).call(request_with(&token)).await?;
    let counter = match response.status() {
        StatusCode::UNAUTHORIZED => &answers.unauthorized,
        StatusCode::SERVICE_UNAVAILABLE => &answers.refused,
        _ => &answers.otherwise,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:24}{:>28}{:>28}", "good requests", "median (ns)", "p99 (ns)")?;
        let flooded = format!("with {:.0} bad/s", self.came.median());
        for (name, turns) in [("quiet", &self.quiet), (&*flooded, &self.flooded)] {
            writeln!(f, "{name:24}{:>28}{:>28}", turns.median, turns.p99)?;
        }
        let median = self.flooded.median.over(&self.quiet.median);
        let p99 = self.flooded.p99.over(&self.quiet.p99);
        writeln!(f, "{:24}{median:>28.2}{p99:>28.2}", "flooded / quiet")?;
        // What else the machine does makes turns worse, never better.
        let [low_median, low_p99]: [fn(&Turns) -> f64; 2] =
            [|it| it.median.quantile(0.0), |it| it.p99.quantile(0.0)];
        let median = low_median(&self.flooded) / low_median(&self.quiet);
        let p99 = low_p99(&self.flooded) / low_p99(&self.quiet);
        writeln!(f, "{:24}{median:>28.2}{p99:>28.2}", "  of the best turns")?;
        writeln!(f, "medians of turns (nine of ten turns); asked for: at most 1.50\n")?;
        let bad = self.unauthorized + self.refused;
        writeln!(f, "{:40}{:>10}", "good requests during the flood", self.good)?;
        writeln!(f, "{:40}{:>10}", "  that led to a call", 0)?;
        writeln!(f, "{:40}{bad:>10} in {:.0} s", "made-up tokens", self.seconds)?;
        writeln!(f, "{:40}{:>10}", "  answered by 401", self.unauthorized)?;
        writeln!(f, "{:40}{:>10}", "  refused by limits (503)", self.refused)?;
        write!(f, "{:40}{:>10.0}", "calls to Authlete a second", self.calls.median())
    }
}
