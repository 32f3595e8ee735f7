//! Requests a second over HTTP: a bare server and a protected one, which take turns.

use std::{fmt, net::SocketAddr, time::Instant};

use axum::Router;
use bytes::Bytes;
use http::{Request, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::runtime::{Builder, Runtime};
use tower_authlete::{
    AuthLayer, Authlete, RequireScopes,
    emulator::{Api, Emulator},
};

use crate::{
    BoxError,
    authority::MAX_AGE,
    cores::{Cores, stay_on},
    figures::Figures,
    server::{PATH, Server, router},
    tools::Tool,
};

/// The scope that the route takes.
const SCOPE: &str = "reports.read";

/// How often each server has its turn, and how long one is (s).
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    pub seconds: u32,
}

/// A bare server, a protected one, and an emulator in a thread of its own.
struct Service {
    servers: [Server; 2],
    token: String,
    emulator: Emulator,
    beside: Runtime,
}

/// Turns of one of the two servers.
#[derive(Default)]
struct Row {
    name: &'static str,
    rates: Figures,
    /// The share of the time in which the server was on its core.
    busy: Figures,
    /// How long it was, for each request (µs).
    cpu: Figures,
}

/// A bare server beside a protected one.
pub struct Comparison {
    tool: Tool,
    bare: Row,
    protected: Row,
}

/// Both versions of HTTP.
///
/// # Errors
/// If a tool is missing, or a request is not answered as it must be.
pub fn run(plan: Plan, cores: Cores) -> Result<Vec<Comparison>, BoxError> {
    let tools = [Tool::Wrk, Tool::H2load];
    tools.iter().try_for_each(|tool| tool.check())?;
    let service = Service::start(cores)?;
    service.beside.block_on(service.check())?;
    let asked = service.emulator.calls(Api::Introspection);
    let comparisons = tools.into_iter().map(|tool| service.compare(plan, tool, cores));
    let comparisons = comparisons.collect::<Result<_, _>>()?;
    if service.emulator.calls(Api::Introspection) != asked {
        return Err("a token that was known was asked about".into());
    }
    Ok(comparisons)
}

impl Service {
    fn start(cores: Cores) -> Result<Self, BoxError> {
        let beside = Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(move || stay_on(cores.client))
            .enable_all()
            .build()?;
        let emulator = beside.block_on(Emulator::start());
        let token = emulator.token().subject("alice").scopes([SCOPE, "profile"]);
        let token = token.property("plan", "gold").expires_in(2 * MAX_AGE).issue();
        let token = beside.block_on(token);
        let servers = [
            Server::start("bare", router(), cores.server)?,
            Server::start("protected", protected(emulator.authlete())?, cores.server)?,
        ];
        Ok(Self { servers, token, emulator, beside })
    }

    /// Makes sure that both answer as they must. The token is known after this.
    async fn check(&self) -> Result<(), BoxError> {
        let [bare, protected] = &self.servers;
        for http2 in [false, true] {
            for server in [bare, protected] {
                expect(server.address, http2, Some(&self.token), StatusCode::OK).await?;
            }
            expect(protected.address, http2, Some("rubbish"), StatusCode::UNAUTHORIZED).await?;
            expect(protected.address, http2, None, StatusCode::UNAUTHORIZED).await?;
        }
        Ok(())
    }

    fn compare(&self, plan: Plan, tool: Tool, cores: Cores) -> Result<Comparison, BoxError> {
        let mut rows = [0, 1].map(|it| Row { name: self.servers[it].name, ..Row::default() });
        for round in 0..=plan.rounds {
            // Who begins changes from round to round.
            for index in [round % 2, (round + 1) % 2] {
                let server = &self.servers[index];
                let (start, before) = (Instant::now(), server.busy());
                let rate = tool.run(server.address, &self.token, plan.seconds, cores.client)?;
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
        let [bare, protected] = rows;
        Ok(Comparison { tool, bare, protected })
    }
}

fn protected(authlete: Authlete) -> Result<Router, BoxError> {
    let layer = AuthLayer::builder(authlete).max_age(MAX_AGE);
    Ok(router().layer(layer.require(RequireScopes::all([SCOPE])).build()?))
}

async fn expect(
    server: SocketAddr,
    http2: bool,
    token: Option<&str>,
    expected: StatusCode,
) -> Result<(), BoxError> {
    let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
    let mut request = Request::get(format!("http://{server}{PATH}"));
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let response = client.request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status != expected || (status == StatusCode::OK && !body.starts_with(b"{")) {
        return Err(format!("{status} instead of {expected}").into());
    }
    Ok(())
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, rates, busy, cpu } = self;
        write!(f, "{name:18}{rates:>28}{cpu:>26.2}{:>12.0} %", busy.median())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tool, bare, protected } = self;
        let heads = ["requests/s", "server's µs a request", "server busy"];
        writeln!(f, "{}", tool.describe())?;
        writeln!(f, "{:18}{:>28}{:>26}{:>14}", "", heads[0], heads[1], heads[2])?;
        writeln!(f, "{bare}\n{protected}")?;
        let (rates, cpu) = (protected.rates.over(&bare.rates), protected.cpu.over(&bare.cpu));
        writeln!(f, "{:18}{rates:>28.3}{cpu:>26.3}", "protected / bare")?;
        // What else the machine does makes turns worse, never better.
        let rate = protected.rates.quantile(1.0) / bare.rates.quantile(1.0);
        let cpu = protected.cpu.quantile(0.0) / bare.cpu.quantile(0.0);
        writeln!(f, "{:18}{rate:>28.3}{cpu:>26.3}", "  of the best turns")?;
        writeln!(f, "medians of turns (nine of ten turns); asked for: at least 0.970")
    }
}
