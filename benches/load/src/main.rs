//! The crate under load.
//!
//! ```sh
//! cargo run --release -- --http          # requests a second over HTTP/1.1 and HTTP/2
//! cargo run --release -- --flood         # good requests while 20 000 made-up tokens come a second
//! cargo run --release -- --miss          # our own part of a miss, and many who wait for one
//! cargo run --release -- --threads       # hits of two threads against one
//! cargo run --release -- --tokens        # a hit with 1 to 1 000 000 tokens
//! cargo run --release --bin memory       # bytes of a cached token, and of a request that waits
//! ```
//!
//! Each takes a minute or two, and looks first whether answers are right. What is compared takes
//! turns, and ratios are of neighbours in time; the first core of the machine is for what is measured,
//! another one for what is beside it.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{Args, Parser};
use load::{
    BoxError,
    cores::{Cores, stay_on},
    flood::{self, Flood},
    http,
    miss::Miss,
    threads, tokens,
};
use tokio::runtime::{Builder, Runtime};

#[derive(Parser)]
#[command(about = "tower-authlete under load")]
struct Options {
    #[command(flatten)]
    what: What,
    /// How many tokens there are at most.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, requires = "tokens")]
    most: u64,
    /// Draws what a hit costs into this SVG file.
    #[arg(long, value_name = "FILE", requires = "tokens")]
    plot: Option<PathBuf>,
    /// How often each server has its turn of a second.
    #[arg(long, value_name = "N", requires = "http", conflicts_with = "quick")]
    rounds: Option<NonZeroU32>,
    /// A short run, to see that it works.
    #[arg(long)]
    quick: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Requests a second over HTTP: bare, protected, and by layers of others. Needs `wrk` and `h2load`.
    #[arg(long)]
    http: bool,
    /// Good requests, quiet and while so many made-up tokens come a second.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20000")]
    flood: Option<NonZeroU32>,
    /// What a miss takes beside the same call by a bare client, and the calls of many waiters.
    #[arg(long)]
    miss: bool,
    /// Hits a second of two threads against one.
    #[arg(long)]
    threads: bool,
    /// What a hit costs, by how many tokens are known.
    #[arg(long)]
    tokens: bool,
}

fn main() -> Result<(), BoxError> {
    let Options { what, most, plot, rounds, quick } = Options::parse();
    let cores = Cores::choose();
    println!("{}\n", load::machine_name());
    if what.http {
        let usual = if quick { 2 } else { 13 };
        let rounds = rounds.map_or(usual, |rounds| rounds.get() as usize);
        let comparisons = http::run(http::Plan { rounds, seconds: 1 }, cores)?;
        comparisons.iter().for_each(|comparison| println!("{comparison}"));
    } else if let Some(rate) = what.flood {
        let rounds = if quick { 1 } else { 20 };
        let plan = flood::Plan { rounds, time: Duration::from_secs(1) };
        println!("{}", Flood::run(plan, rate.get(), cores)?);
    } else if what.miss {
        let rounds = if quick { 500 } else { 20_000 };
        println!("{}", runtime(cores)?.block_on(Miss::run(rounds))?);
    } else if what.threads {
        let rounds = if quick { 3 } else { 100 };
        println!("{}", threads::Table(threads::run(rounds, cores)?));
    } else if what.tokens {
        let (most, rounds) = if quick { (1000, 5) } else { (most, 60) };
        let table = tokens::Table(runtime(cores)?.block_on(tokens::run(most, rounds))?);
        println!("{table}");
        plot.map_or(Ok(()), |file| table.draw(&file))?;
    }
    Ok(())
}

/// A runtime in this thread, on the first core.
fn runtime(cores: Cores) -> Result<Runtime, BoxError> {
    stay_on(cores.server);
    Ok(Builder::new_current_thread().enable_all().build()?)
}
