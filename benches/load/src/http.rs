//! Requests a second over HTTP: a bare server and protected ones, which take turns.

use std::{fmt, net::SocketAddr, time::Instant};

use bytes::Bytes;
use http::{Request, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::runtime::{Builder, Runtime};
use tower_authlete::emulator::{Api, Emulator};

use crate::{
    BoxError, by_hand,
    contender::{Contender, PATH},
    cores::{Cores, stay_on},
    figures::Figures,
    server::{Report, Server},
    tools::Tool,
    with_authlete::{self, Tokens},
    with_zitadel,
};

/// How often each server has its turn, and how long one is (s).
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    pub seconds: u32,
}

/// The servers, and what they ask in a thread of its own.
struct Sitting {
    entrants: Vec<Entrant>,
    emulator: Emulator,
    beside: Runtime,
}

/// A server, and how it must answer.
struct Entrant {
    contender: Contender,
    server: Server,
}

/// Turns of one of the servers.
#[derive(Default)]
struct Row {
    name: &'static str,
    rates: Figures,
    /// The share of the time in which the server was on its core.
    busy: Figures,
    /// How long it was, for each request (µs).
    cpu: Figures,
}

/// A bare server beside one that is protected by this crate, one by hand, and one by others.
pub struct Comparison {
    tool: Tool,
    rows: Vec<Row>,
}

/// Both versions of HTTP.
///
/// # Errors
/// If a tool is missing, or a request is not answered as it must be.
pub fn run(plan: Plan, cores: Cores) -> Result<Vec<Comparison>, BoxError> {
    let tools = [Tool::Wrk, Tool::H2load];
    tools.iter().try_for_each(|tool| tool.check())?;
    let sitting = Sitting::begin(cores)?;
    sitting.beside.block_on(sitting.check())?;
    let asked = sitting.emulator.calls(Api::Introspection);
    let comparisons = tools.into_iter().map(|tool| sitting.compare(plan, tool, cores));
    let comparisons = comparisons.collect::<Result<_, _>>()?;
    if sitting.emulator.calls(Api::Introspection) != asked {
        return Err("a token that was known was asked about".into());
    }
    Ok(comparisons)
}

impl Sitting {
    fn begin(cores: Cores) -> Result<Self, BoxError> {
        let beside = Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(move || stay_on(cores.client))
            .enable_all()
            .build()?;
        let emulator = beside.block_on(Emulator::start());
        let entrants = beside.block_on(contenders(&emulator))?.into_iter().map(|contender| {
            let server = Server::start(contender.router.clone(), cores.server)?;
            Ok(Entrant { contender, server })
        });
        let entrants = entrants.collect::<Result<_, BoxError>>()?;
        Ok(Self { entrants, emulator, beside })
    }

    /// Makes sure that all answer as they must. Good tokens are known after this.
    async fn check(&self) -> Result<(), BoxError> {
        for Entrant { contender, server } in &self.entrants {
            for http2 in [false, true] {
                let expect = |token, status| expect(server.address, http2, token, status);
                let good = expect(&contender.good, StatusCode::OK).await;
                let mut wrong = good.err();
                for (token, status) in &contender.refused {
                    wrong = wrong.or(expect(token, *status).await.err());
                }
                if let Some(wrong) = wrong {
                    return Err(format!("{}: {wrong}", contender.name).into());
                }
            }
        }
        Ok(())
    }

    fn compare(&self, plan: Plan, tool: Tool, cores: Cores) -> Result<Comparison, BoxError> {
        let row = |it: &Entrant| Row { name: it.contender.name, ..Row::default() };
        let mut rows: Vec<_> = self.entrants.iter().map(row).collect();
        for round in 0..=plan.rounds {
            for turn in 0..rows.len() {
                // Who begins changes from round to round.
                let index = (round + turn) % rows.len();
                let Entrant { contender, server } = &self.entrants[index];
                let (start, before) = (Instant::now(), server.busy());
                let rate = tool.run(server.address, &contender.good, plan.seconds, cores.client)?;
                let busy = (server.busy() - before).as_secs_f64() / start.elapsed().as_secs_f64();
                // Processors get up to speed first.
                if round == 0 {
                    continue;
                }
                rows[index].rates.push(rate);
                rows[index].busy.push(100.0 * busy);
                rows[index].cpu.push(1e6 * busy / rate);
            }
        }
        Ok(Comparison { tool, rows })
    }
}

/// The bare router, ours, and those that it is compared with: the one by hand first.
async fn contenders(emulator: &Emulator) -> Result<Vec<Contender>, BoxError> {
    let tokens = Tokens::issue(emulator).await;
    Ok(vec![
        Contender::bare::<Report>(&tokens.good),
        with_authlete::contender::<Report>(emulator, &tokens)?,
        by_hand::contender::<Report>(emulator, &tokens),
        with_zitadel::contender::<Report>(&tokens.good).await?,
    ])
}

async fn expect(
    server: SocketAddr,
    http2: bool,
    token: &str,
    expected: StatusCode,
) -> Result<(), BoxError> {
    let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
    let request = Request::get(format!("http://{server}{PATH}"));
    let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    let response = client.request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status != expected || (status == StatusCode::OK && !body.starts_with(b"{")) {
        return Err(format!("{status} instead of {expected}").into());
    }
    Ok(())
}

impl Comparison {
    /// What the server takes more for a request with ours, to what it takes more with theirs: by the medians
    /// of turns, and by the best ones. What else the machine does makes turns worse, never better.
    fn ratio(&self, theirs: &Row) -> [f64; 2] {
        let (bare, ours) = (&self.rows[0].cpu, &self.rows[1].cpu);
        let median = |row: &Figures| row.less(bare).median();
        let best = |row: &Figures| row.quantile(0.0) - bare.quantile(0.0);
        [median(ours) / median(&theirs.cpu), best(ours) / best(&theirs.cpu)]
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [bare, ours, protected @ ..] = self.rows.as_slice() else { return Ok(()) };
        writeln!(f, "{}", self.tool.describe())?;
        let heads = ["requests/s", "to bare", "server's µs a request", "more than bare"];
        let [rates, to_bare, cpu, more] = heads;
        writeln!(f, "{:18}{rates:>28}{to_bare:>24}{cpu:>24}{more:>24}{:>8}", "", "busy")?;
        for row in &self.rows {
            let Row { name, rates, busy, cpu } = row;
            write!(f, "{name:18}{rates:>28}")?;
            let (to_bare, more) = (rates.over(&bare.rates), cpu.less(&bare.cpu));
            writeln!(f, "{to_bare:>24.3}{cpu:>24.2}{more:>24.2}{:>6.0} %", busy.median())?;
        }
        // What else the machine does makes turns worse, never better.
        let best = ours.rates.quantile(1.0) / bare.rates.quantile(1.0);
        writeln!(f, "requests/s of {} to bare, best turns: {best:.3}", ours.name)?;
        for theirs in protected {
            let [median, best] = self.ratio(theirs);
            write!(f, "({0} - {1}) / ({2} - {1}): ", ours.name, bare.name, theirs.name)?;
            writeln!(f, "{median:.2}; of the best turns {best:.2}")?;
        }
        writeln!(
            f,
            "medians of turns (nine of ten turns); asked for: requests/s at least 0.970 of bare, \
             and 0.50 of what the layer takes that is {}",
            protected.first().map_or("", |row| row.name)
        )
    }
}
