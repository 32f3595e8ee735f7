//! A bare server and a protected one, which take turns.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    BoxError,
    client::{self, Protocol, Sender, quantile},
    median,
    server::Server,
};

/// What is done to each server.
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    pub time: Duration,
    pub senders: usize,
}

/// What became of a turn.
struct Turn {
    rate: f64,
    p50: f64,
    p99: f64,
    /// Microseconds of a core for each request.
    busy: f64,
    /// The share of the time in which the server was busy.
    load: f64,
}

/// The turns of a server.
struct Row {
    name: &'static str,
    turns: Vec<Turn>,
}

/// A bare server beside a protected one.
pub struct Comparison {
    protocol: Protocol,
    bare: Row,
    protected: Row,
}

impl Comparison {
    /// # Errors
    /// If a request is refused or a connection breaks.
    pub async fn run(
        plan: Plan,
        protocol: Protocol,
        [bare, protected]: [&Server; 2],
        token: &str,
    ) -> Result<Self, BoxError> {
        let mut rows = [bare, protected].map(|it| Row { name: it.name, turns: Vec::new() });
        for round in 0..plan.rounds {
            // Who begins changes from round to round.
            for index in [round % 2, (round + 1) % 2] {
                let server = [bare, protected][index];
                rows[index].turns.push(turn(plan, protocol, server, token).await?);
            }
        }
        let [bare, protected] = rows;
        Ok(Self { protocol, bare, protected })
    }
}

async fn turn(
    plan: Plan,
    protocol: Protocol,
    server: &Server,
    token: &str,
) -> Result<Turn, BoxError> {
    let senders = Sender::open(server.address, protocol, plan.senders).await?;
    let request = client::request(server.address, protocol, token)?;
    let (start, before) = (Instant::now(), server.busy());
    let latencies = client::load(senders, request, plan.time, None).await?;
    let (time, busy) = (start.elapsed().as_secs_f64(), server.busy() - before);
    let (requests, busy) = (latencies.len() as f64, busy.as_secs_f64());
    Ok(Turn {
        rate: requests / time,
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        busy: busy * 1e6 / requests,
        load: busy / time,
    })
}

impl Row {
    fn median(&self, figure: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(figure))
    }

    fn least(&self, figure: impl Fn(&Turn) -> f64) -> f64 {
        self.turns.iter().map(figure).fold(f64::INFINITY, f64::min)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, .. } = self;
        let (rate, p50) = (self.median(|it| it.rate), self.median(|it| it.p50));
        let (p99, busy) = (self.median(|it| it.p99), self.median(|it| it.busy));
        let load = 100.0 * self.median(|it| it.load);
        write!(f, "{name:18}{rate:>12.0}{p50:>10.1}{p99:>10.1}{busy:>16.2}{load:>13.0} %")
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, bare, protected } = self;
        // Neighbours in time share the machine's moods.
        let ratio = |figure: fn(&Turn) -> f64| {
            let turns = protected.turns.iter().zip(&bare.turns);
            median(turns.map(|(protected, bare)| figure(protected) / figure(bare)))
        };
        let (rate, p50) = (ratio(|it| it.rate), ratio(|it| it.p50));
        let (p99, busy) = (ratio(|it| it.p99), ratio(|it| it.busy));
        writeln!(
            f,
            "{:18}{:>12}{:>10}{:>10}{:>16}{:>15}",
            protocol.to_string(),
            "requests/s",
            "p50 (µs)",
            "p99 (µs)",
            "CPU µs/request",
            "server busy"
        )?;
        writeln!(f, "{bare}\n{protected}")?;
        writeln!(f, "{:18}{rate:>12.3}{p50:>10.3}{p99:>10.3}{busy:>16.3}", "protected/bare")?;
        // What else the machine does makes turns worse, never better.
        let best = |figure: fn(&Turn) -> f64| protected.least(figure) / bare.least(figure);
        let (rate, p50) = (1.0 / best(|it| 1.0 / it.rate), best(|it| it.p50));
        let (p99, busy) = (best(|it| it.p99), best(|it| it.busy));
        writeln!(f, "{:18}{rate:>12.3}{p50:>10.3}{p99:>10.3}{busy:>16.3}", "  of best turns")?;
        let noise = 100.0 * bare.least(|it| it.rate) * bare.least(|it| 1.0 / it.rate);
        writeln!(
            f,
            "noise: the bare server's slowest turn had {noise:.0} % of the requests of its fastest"
        )
    }
}
