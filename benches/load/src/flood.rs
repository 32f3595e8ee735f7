//! Good requests, while others come with made-up tokens.

use std::{fmt, net::SocketAddr, thread, time::Duration};

use core_affinity::CoreId;
use http::StatusCode;
use tokio::{
    task::JoinSet,
    time::{Instant, Interval, interval_at},
};

use crate::{
    BoxError,
    client::{self, Protocol, Sender, quantile},
    compare::Plan,
    cores::stay_on,
    median,
};

/// How many connections the flood comes by.
const CONNECTIONS: u32 = 32;

/// How often each sender of good requests sends one.
const PACE: Duration = Duration::from_millis(16);

/// Good requests in quiet and in a flood.
#[derive(Default)]
pub struct Flood {
    quiet: Vec<Turn>,
    flooded: Vec<Turn>,
    floods: Vec<Came>,
}

/// Latencies of good requests (µs), and how many there were.
struct Turn {
    p50: f64,
    p99: f64,
    requests: u64,
}

/// How many made-up tokens came each second, and how many of all were not answered by 401.
#[derive(Default)]
struct Came {
    rate: f64,
    otherwise: u64,
}

impl Flood {
    /// So many made-up tokens a second, no two the same, and none a second, in turns.
    ///
    /// # Errors
    /// If a good request is refused, or a connection breaks.
    pub async fn run(
        plan: Plan,
        server: SocketAddr,
        token: &str,
        rate: u32,
        core: Option<CoreId>,
    ) -> Result<Self, BoxError> {
        let mut turns = Self::default();
        for _ in 0..plan.rounds {
            turns.quiet.push(good(plan, server, token).await?);
            let flood = thread::spawn(move || flood(plan.time, server, rate, core));
            turns.flooded.push(good(plan, server, token).await?);
            turns.floods.push(flood.join().map_err(|_| "the flood broke off")??);
        }
        Ok(turns)
    }
}

async fn good(plan: Plan, server: SocketAddr, token: &str) -> Result<Turn, BoxError> {
    let senders = Sender::open(server, Protocol::Http1, plan.senders).await?;
    let request = client::request(server, Protocol::Http1, token)?;
    let latencies = client::load(senders, request, plan.time, Some(PACE)).await?;
    let (p50, p99) = (quantile(&latencies, 0.5), quantile(&latencies, 0.99));
    Ok(Turn { p50, p99, requests: latencies.len() })
}

fn flood(
    time: Duration,
    server: SocketAddr,
    rate: u32,
    core: Option<CoreId>,
) -> Result<Came, BoxError> {
    stay_on(core);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (start, connections) = (Instant::now(), CONNECTIONS.min(rate));
        let mut tasks = JoinSet::new();
        let pace = Duration::from_secs(1) * connections / rate;
        let senders = Sender::open(server, Protocol::Http1, connections as usize).await?;
        for (sender, turn) in senders.into_iter().zip(0..) {
            let ticks = interval_at(start + pace * turn / connections, pace);
            tasks.spawn(flood_until(start + time, sender, server, ticks));
        }
        let (mut came, mut otherwise) = (0, 0);
        while let Some(task) = tasks.join_next().await {
            let (of_task, otherwise_of_task) = task??;
            came += of_task;
            otherwise += otherwise_of_task;
        }
        Ok(Came { rate: came as f64 / start.elapsed().as_secs_f64(), otherwise })
    })
}

/// How many came, and how many of them were not answered by 401.
async fn flood_until(
    end: Instant,
    mut sender: Sender,
    server: SocketAddr,
    mut ticks: Interval,
) -> Result<(u64, u64), BoxError> {
    let (mut came, mut otherwise) = (0, 0);
    while Instant::now() < end {
        ticks.tick().await;
        let token = format!("{:032x}", rand::random::<u128>());
        let status = sender.send(client::request(server, Protocol::Http1, &token)?).await?;
        came += 1;
        otherwise += u64::from(status != StatusCode::UNAUTHORIZED);
    }
    Ok((came, otherwise))
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = median(self.floods.iter().map(|came| came.rate));
        let otherwise: u64 = self.floods.iter().map(|came| came.otherwise).sum();
        writeln!(f, "{:24}{:>10}{:>12}{:>12}", "good requests", "sent", "p50 (µs)", "p99 (µs)")?;
        let flooded = format!("with {rate:.0} bad/s");
        for (name, turns) in [("quiet", &self.quiet), (&*flooded, &self.flooded)] {
            let sent: u64 = turns.iter().map(|it| it.requests).sum();
            let p50 = median(turns.iter().map(|it| it.p50));
            let p99 = median(turns.iter().map(|it| it.p99));
            writeln!(f, "{name:24}{sent:>10}{p50:>12.1}{p99:>12.1}")?;
        }
        let ratio = |figure: fn(&Turn) -> f64| {
            let turns = self.flooded.iter().zip(&self.quiet);
            median(turns.map(|(flooded, quiet)| figure(flooded) / figure(quiet)))
        };
        let (p50, p99) = (ratio(|it| it.p50), ratio(|it| it.p99));
        writeln!(f, "{:24}{:>10}{p50:>12.2}{p99:>12.2}", "flooded/quiet", "")?;
        // What else the machine does makes turns worse, never better.
        let least = |turns: &[Turn], figure: fn(&Turn) -> f64| {
            turns.iter().map(figure).fold(f64::INFINITY, f64::min)
        };
        let best = |figure| least(&self.flooded, figure) / least(&self.quiet, figure);
        let (p50, p99) = (best(|it| it.p50), best(|it| it.p99));
        writeln!(f, "{:24}{:>10}{p50:>12.2}{p99:>12.2}", "  of best turns", "")?;
        writeln!(f, "bad requests that were not answered by 401: {otherwise}")
    }
}
