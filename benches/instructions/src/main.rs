//! How many instructions a request costs, which does not depend on how busy the machine is.
//!
//! ```sh
//! cargo run --release               # counts, and fails if a request became heavier than it may
//! cargo run --release -- hit miss   # these only
//! cargo run --release -- --bless    # takes the limits anew
//! ```
//!
//! Each kind of request is sent some hundred times in a process of its own, under valgrind; what led up
//! to it is not counted. What the service takes without the layer is subtracted.

mod callgrind;
mod limit;
mod limits;
mod machine;
mod report;
mod scenes;

use std::process::ExitCode;

use anyhow::{Context, Result};
use callgrind::Count;
use clap::Parser;
use limits::Limits;
use machine::Machine;
use report::{Report, Row};
use scenes::{BARE, SCENES, Scene};

#[derive(Parser)]
#[command(about = "Instructions of a request, held to limits")]
struct Options {
    /// Which requests; all if none is named.
    scenes: Vec<String>,
    /// Takes what is counted for the limits from now on.
    #[arg(long)]
    bless: bool,
    /// What is counted: sends the requests, and nothing else.
    #[arg(long, hide = true)]
    play: bool,
}

impl Options {
    fn scenes(&self) -> Result<Vec<Scene>> {
        if self.scenes.is_empty() {
            return Ok(SCENES.to_vec());
        }
        let named = |name: &String| Scene::named(name).with_context(|| format!("no scene {name}"));
        self.scenes.iter().map(named).collect()
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let scenes = options.scenes()?;
    if options.play {
        scenes.into_iter().for_each(Scene::play);
        return Ok(ExitCode::SUCCESS);
    }
    let mut limits = Limits::read()?;
    let machine = Machine::this()?;
    let bare = callgrind::count(BARE)?.of_one(BARE);
    let mut rows = Vec::new();
    for scene in scenes {
        let count = callgrind::count(scene)?.of_one(scene).without(bare);
        rows.push(Row { scene, count, limit: limits.of(scene) });
    }
    let report = Report { rows, differences: limits.differences(&machine) };
    print!("{report}");
    if options.bless {
        limits.bless(&report.rows, &machine)?;
        println!("\nThese are the limits now.");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Count {
    /// What one of a scene's requests takes.
    fn of_one(self, scene: Scene) -> Self {
        let part = |all: u64| (all + scene.requests / 2) / scene.requests;
        Self { plain: part(self.plain), cryptography: part(self.cryptography) }
    }

    fn without(self, bare: Self) -> Self {
        Self {
            plain: self.plain.saturating_sub(bare.plain),
            cryptography: self.cryptography.saturating_sub(bare.cryptography),
        }
    }
}
