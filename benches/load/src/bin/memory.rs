//! What a cached token takes of the heap.
//!
//! ```sh
//! cargo run --release --bin memory
//! ```
//!
//! The allocator counts what is asked of it; what it keeps for itself is not in the figures.

use std::error::Error;

use clap::Parser;
use load::authority::{Authority, warm_up};
use moka::sync::Cache;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

#[derive(Parser)]
#[command(about = "What a cached token takes of the heap")]
struct Options {
    /// How many tokens are cached.
    #[arg(long, default_value_t = 1_000_000)]
    tokens: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let Options { tokens } = Options::parse();
    let authority = Authority::new().await?;
    let before = HEAP.current_usage();
    let layer = authority.layer(tokens)?;
    warm_up(&layer, 0..tokens).await?;
    let ours = each(before, tokens);

    let before = HEAP.current_usage();
    let bare: Cache<[u8; 32], u64> = Cache::new(2 * tokens);
    for number in 0..tokens {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        bare.insert(key, number);
    }
    bare.run_pending_tasks();
    let bare = each(before, tokens);

    println!("{tokens} tokens of two scopes and a property, in bytes each");
    println!("{:40}{ours:>8.0}", "the layer");
    println!("{:40}{bare:>8.0}", "moka, with a key and 8 bytes");
    drop(layer);
    Ok(())
}

/// What has been taken since, by each of so many.
fn each(before: usize, tokens: u64) -> f64 {
    HEAP.current_usage().saturating_sub(before) as f64 / tokens as f64
}
