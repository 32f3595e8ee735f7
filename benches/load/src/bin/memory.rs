//! What a cached token takes of the heap, and a request that waits for another's answer.
//!
//! ```sh
//! cargo run --release --bin memory
//! ```
//!
//! The allocator counts what is asked of it; what it keeps for itself is not in the figures.

use clap::Parser;
use load::{
    BoxError,
    authority::{Authority, MAX_AGE, request, warm_up},
    miss::WAITERS,
    upstream::Upstream,
    waiters,
};
use moka::sync::Cache;
use peak_alloc::PeakAlloc;
use tower_authlete::AuthLayer;

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
async fn main() -> Result<(), BoxError> {
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
    let (requests, waiting) = waiters().await?;
    println!("\n{WAITERS} requests that wait for one answer, in bytes each");
    println!("{:40}{requests:>8.0}", "a request of its own");
    println!("{:40}{waiting:>8.0}", "all in while it waits");
    Ok(())
}

/// What a request takes alone, and while it waits for another's answer.
async fn waiters() -> Result<(f64, f64), BoxError> {
    let upstream = Upstream::start().await?;
    let layer = AuthLayer::builder(upstream.authlete()?).max_age(MAX_AGE).build()?;
    // The connection is made first, and what is made once for all.
    waiters::wait(&upstream, &layer, 1, 0, || ()).await?;
    let before = HEAP.current_usage();
    let requests: Vec<_> = (0..WAITERS).map(|_| Box::new(request(1))).collect();
    let alone = each(before, WAITERS);
    drop(requests);
    let before = HEAP.current_usage();
    let waiting = waiters::wait(&upstream, &layer, WAITERS, 1, || each(before, WAITERS)).await?;
    Ok((alone, waiting))
}

/// What has been taken since, by each of so many.
fn each(before: usize, tokens: u64) -> f64 {
    HEAP.current_usage().saturating_sub(before) as f64 / tokens as f64
}
