//! The crate under load.
//!
//! ```sh
//! cargo run --release                    # requests over HTTP: bare beside protected
//! cargo run --release -- --flood 2000    # good requests while 2000 made-up tokens come a second
//! cargo run --release -- --tokens        # a hit with 1 to 1 000 000 tokens, in process
//! cargo run --release --bin memory       # bytes of a cached token
//! ```
//!
//! Servers have a thread and a core of their own; clients, the flood and the emulator have another
//! core. Turns alternate, and ratios are of neighbours in time. Where the server is not busy all the
//! time, requests a second say more about the client: the time that the server was on its core says
//! what a request costs.

use std::time::Duration;

use axum::Router;
use clap::Parser;
use load::{
    BoxError,
    authority::MAX_AGE,
    client::Protocol,
    compare::{Comparison, Plan},
    cores::{Cores, stay_on},
    flood::Flood,
    server::{Server, router},
    tokens::{self, Table},
};
use tokio::runtime::{Builder, Runtime};
use tower_authlete::{
    AuthLayer, Authlete, RequireScopes,
    emulator::{Api, Emulator},
};

/// The scope that the route takes.
const SCOPE: &str = "reports.read";

#[derive(Parser)]
#[command(about = "tower-authlete under load")]
struct Options {
    /// How often each server has its turn.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// How long a turn is (s).
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// How many requests are on their way at once.
    #[arg(long, default_value_t = 64)]
    senders: usize,
    /// Adds so many made-up tokens a second, and tells what becomes of good requests.
    #[arg(long, value_name = "N")]
    flood: Option<std::num::NonZeroU32>,
    /// Tells what a hit costs by how many tokens are known.
    #[arg(long, conflicts_with = "flood")]
    tokens: bool,
    /// How many tokens there are at most.
    #[arg(long, default_value_t = 1_000_000, requires = "tokens")]
    most: u64,
    /// A short run, to see that it works.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "most"])]
    quick: bool,
}

impl Options {
    fn plan(&self) -> Plan {
        let (rounds, seconds) = if self.quick { (2, 0.2) } else { (self.rounds, self.seconds) };
        Plan { rounds, time: Duration::from_secs_f64(seconds), senders: self.senders }
    }
}

fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let cores = Cores::choose();
    stay_on(cores.client);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    if options.tokens {
        let (most, rounds) = if options.quick { (1000, 5) } else { (options.most, 100) };
        let rows = runtime.block_on(tokens::run(most, rounds))?;
        println!("{}", Table(rows));
        return Ok(());
    }
    let service = Service::start(cores)?;
    match options.flood {
        Some(rate) => runtime.block_on(service.flood(options.plan(), rate.get(), cores)),
        None => runtime.block_on(service.compare(options.plan())),
    }
}

/// A bare server, a protected one, and an emulator in a thread of its own.
struct Service {
    bare: Server,
    protected: Server,
    token: String,
    emulator: Emulator,
    _beside: Runtime,
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
        let bare = Server::start("bare", router(), cores.server)?;
        let protected = protected(emulator.authlete())?;
        let protected = Server::start("protected", protected, cores.server)?;
        Ok(Self { bare, protected, token, emulator, _beside: beside })
    }

    async fn compare(&self, plan: Plan) -> Result<(), BoxError> {
        let servers = [&self.bare, &self.protected];
        for protocol in [Protocol::Http1, Protocol::Http2] {
            println!("{}", Comparison::run(plan, protocol, servers, &self.token).await?);
        }
        Ok(())
    }

    async fn flood(&self, plan: Plan, rate: u32, cores: Cores) -> Result<(), BoxError> {
        let server = self.protected.address;
        print!("{}", Flood::run(plan, server, &self.token, rate, cores.client).await?);
        println!("calls to Authlete: {}", self.emulator.calls(Api::Introspection));
        Ok(())
    }
}

fn protected(authlete: Authlete) -> Result<Router, BoxError> {
    let layer = AuthLayer::builder(authlete).max_age(MAX_AGE);
    Ok(router().layer(layer.require(RequireScopes::all([SCOPE])).build()?))
}
