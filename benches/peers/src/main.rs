//! What protection costs: this crate beside what else protects the same axum router, in process.
//!
//! ```sh
//! cargo run --release
//! cargo run --release -- --runs 5
//! cargo run --release -- --plot peers.svg
//! ```
//!
//! Each contender is first asked whether it lets the right requests pass. Then they take turns, in
//! chunks of requests that were made beforehand; who begins changes from round to round. A
//! contender's overhead is its time per request less that of the bare router, and so includes what axum
//! takes for any layer (`zitadel` is no layer but an extractor). Tokens are known before they are
//! timed: nothing that is timed goes to another server. Routers are given their state beforehand, as
//! `axum::serve` does for each connection: axum then wraps its routes in their layers once, and not
//! for each request.
//!
//! With `--runs`, all of that is done so often in one sitting, each time with routers made anew, whose
//! memory lies elsewhere; ratios are the medians of all runs.
//!
//! Compare the rows of one run with each other: figures of different runs or machines say little.

mod by_hand;
mod contender;
mod jwt;
mod machine;
mod table;
mod timing;
mod with_authlete;
mod with_zitadel;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::Parser;
use tower_authlete::emulator::{Api, Emulator};

use crate::{
    contender::{Answer, Contender},
    table::{Ratios, Table},
    with_authlete::Tokens,
};

/// Whatever goes wrong ends the program.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

const TITLE: &str =
    "What protection adds to a request whose token is known (ns, median, log scale)";

/// What a bar of no length stands for (ns).
const ORIGIN: f64 = 10.0;

#[derive(Parser)]
#[command(about = "tower-authlete beside what else protects an axum router")]
struct Options {
    /// How often each contender has its turn.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// How many requests make a turn.
    #[arg(long, default_value_t = 2000)]
    requests: usize,
    /// How often all of that is done, with routers made anew.
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    runs: NonZeroUsize,
    /// A short run, to see that it works.
    #[arg(long, conflicts_with_all = ["rounds", "requests"])]
    quick: bool,
    /// Draws the overheads of the last run into this SVG file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    println!("{}\n", machine::name());
    let mut tables = Vec::new();
    for _ in 0..options.runs.get() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let table = runtime.block_on(run(&options))?;
        println!("{table}\n");
        tables.push(table);
    }
    if options.runs.get() > 1 {
        println!("{}", Ratios(&tables));
    }
    if let (Some(file), Some(table)) = (options.plot, tables.last()) {
        plot::bars(&file, TITLE, "ns", ORIGIN, &table.bars())?;
    }
    Ok(())
}

async fn run(options: &Options) -> Result<Table, BoxError> {
    let (rounds, requests) =
        if options.quick { (5, 200) } else { (options.rounds, options.requests) };
    let emulator = Emulator::start().await;
    let mut contenders = contenders(&emulator).await?;
    for contender in &mut contenders {
        contender.check().await?;
    }
    let asked = emulator.calls(Api::Introspection);
    let timings = timing::run(&mut contenders, rounds, requests).await?;
    if emulator.calls(Api::Introspection) != asked {
        return Err("a call to Authlete was timed".into());
    }
    Ok(Table::new(&contenders, &timings))
}

/// The bare router, one with an empty layer, ours, and those that it is compared with.
async fn contenders(emulator: &Emulator) -> Result<Vec<Contender>, BoxError> {
    let tokens = Tokens::issue(emulator).await;
    Ok(vec![
        Contender::bare::<Text>(&tokens.good),
        Contender::empty::<Text>(&tokens.good),
        with_authlete::contender::<Text>(emulator, &tokens)?,
        by_hand::contender::<Text>(emulator, &tokens),
        with_zitadel::contender::<Text>(&tokens.good).await?,
        jwt::contender::<Text>().await?,
    ])
}

/// As little as a handler can answer.
struct Text;

impl Answer for Text {
    type Response = &'static str;

    async fn answer() -> Self::Response {
        "ok"
    }
}
