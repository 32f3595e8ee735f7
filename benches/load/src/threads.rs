//! Two threads that look up the same tokens, against one.

use std::{
    fmt,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use core_affinity::CoreId;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::runtime::Builder;
use tower::{Layer, Service, service_fn};
use tower_authlete::AuthLayer;

use crate::{
    BoxError,
    authority::{Authority, handler, request, warm_up},
    cores::{Cores, stay_on},
    figures::Figures,
};

/// Of how many parts a turn is, and how many requests a thread makes in each.
const PARTS: usize = 10;
const REQUESTS: usize = 2000;

/// How many tokens there are.
const TOKENS: [u64; 2] = [1, 1000];

/// Hits a second of one thread and of two, with so many tokens.
#[derive(Default)]
pub struct Row {
    tokens: u64,
    one: Figures,
    two: Figures,
}

/// Hits a second with one hot token, and with a thousand.
///
/// # Errors
/// If a good token is refused, or a hit was none.
pub fn run(rounds: usize, cores: Cores) -> Result<Vec<Row>, BoxError> {
    if cores.server.is_none() || cores.server == cores.client {
        return Err("two threads need two cores".into());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let authority = runtime.block_on(Authority::new())?;
    let layer = authority.layer(TOKENS[1])?;
    runtime.block_on(warm_up(&layer, 0..TOKENS[1]))?;
    let asked = authority.calls();
    let row = |tokens| row(&layer, tokens, rounds, cores);
    let rows = TOKENS.into_iter().map(row).collect::<Result<_, _>>()?;
    if authority.calls() != asked {
        return Err("a token that was known was asked about".into());
    }
    Ok(rows)
}

fn row(layer: &AuthLayer, tokens: u64, rounds: usize, cores: Cores) -> Result<Row, BoxError> {
    let mut row = Row { tokens, ..Row::default() };
    for round in 0..=rounds {
        let both = [cores.server, cores.client];
        let one = together(layer, tokens, &[both[round % 2]])?;
        let two = together(layer, tokens, &both)?;
        // Tokens get to the front tier first.
        if round > 0 {
            row.one.push(one);
            row.two.push(two);
        }
    }
    Ok(row)
}

/// Hits a second of a thread on each of these cores, all at once.
fn together(layer: &AuthLayer, tokens: u64, cores: &[Option<CoreId>]) -> Result<f64, BoxError> {
    let ready = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = cores
        .iter()
        .zip(0..)
        .map(|(core, seed)| {
            let (layer, core, ready) = (layer.clone(), *core, ready.clone());
            let threads = cores.len();
            thread::spawn(move || {
                stay_on(core);
                hits(&layer, tokens, seed, threads, &ready)
            })
        })
        .collect();
    let mut rate = 0.0;
    for thread in threads {
        rate += thread.join().map_err(|_| "a thread broke off")??;
    }
    Ok(rate)
}

/// Hits a second of this thread, which begins each part when all are ready.
fn hits(
    layer: &AuthLayer,
    tokens: u64,
    seed: u64,
    threads: usize,
    ready: &AtomicUsize,
) -> Result<f64, BoxError> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut service = layer.layer(service_fn(handler));
    let runtime = Builder::new_current_thread().build()?;
    let mut time = Duration::ZERO;
    for part in 0..=PARTS {
        let requests: Vec<_> =
            (0..REQUESTS).map(|_| request(random.random_range(0..tokens))).collect();
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < (part + 1) * threads {
            // Not asleep: who wakes up late is alone for the rest.
            thread::yield_now();
        }
        let start = Instant::now();
        runtime.block_on(async {
            for request in requests {
                black_box(service.call(request).await?);
            }
            Ok::<_, BoxError>(())
        })?;
        // A new thread gets its memory first.
        if part > 0 {
            time += start.elapsed();
        }
    }
    Ok((PARTS * REQUESTS) as f64 / time.as_secs_f64())
}

/// The rows as a table.
pub struct Table(pub Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["one thread, hits/s", "two threads, hits/s", "two / one"];
        writeln!(f, "{:>8}{:>36}{:>36}{:>24}", "tokens", heads[0], heads[1], heads[2])?;
        for Row { tokens, one, two } in &self.0 {
            writeln!(f, "{tokens:>8}{one:>36}{two:>36}{:>24.2}", two.over(one))?;
        }
        for Row { tokens, one, two } in &self.0 {
            // What else the machine does makes turns worse, never better.
            let best = two.quantile(0.95) / one.quantile(0.95);
            writeln!(f, "{tokens:>8} of the best turns: two / one {best:.2}")?;
        }
        write!(f, "medians (nine of ten turns); asked for: two / one of at least 1.80")
    }
}
