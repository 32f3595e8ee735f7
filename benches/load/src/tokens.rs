//! What a hit costs, by how many tokens are known.

use std::{fmt, hint::black_box, sync::Arc, time::Instant};

use http::Request;
use moka::sync::Cache;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Zipf};
use sha2::{Digest, Sha256};
use tower::{Layer, Service, service_fn};
use tower_authlete::AuthLayer;

use crate::{
    BoxError,
    authority::{Authority, handler, request, token, warm_up},
    median,
};

/// How many requests make a turn.
const REQUESTS: usize = 2000;

/// Of what a zipf distribution makes little difference: as of words and of visitors.
const EXPONENT: f64 = 1.0;

/// How tokens are drawn.
#[derive(Clone, Copy)]
enum Draw {
    Uniform,
    Zipf,
}

impl Draw {
    fn numbers(self, tokens: u64, random: &mut SmallRng) -> Result<Vec<u64>, BoxError> {
        let zipf = Zipf::new(tokens as f64, EXPONENT)?;
        let number = |_| match self {
            Self::Uniform => random.random_range(0..tokens),
            Self::Zipf => zipf.sample(random) as u64 - 1,
        };
        Ok((0..REQUESTS).map(number).collect())
    }
}

/// What a hit costs with so many tokens (ns), beside a look into a bare cache.
pub struct Row {
    tokens: u64,
    hits: [f64; 2],
    looks: [f64; 2],
}

/// Costs at 1, 10, ... tokens.
///
/// # Errors
/// If a good token is refused, or a hit was none.
pub async fn run(most: u64, rounds: usize) -> Result<Vec<Row>, BoxError> {
    let authority = Authority::new().await?;
    let known = Known { layer: authority.layer(most)?, bare: Cache::new(2 * most) };
    let (mut rows, mut warm) = (Vec::new(), 0);
    for tokens in (0..).map(|power| 10u64.pow(power)).take_while(|tokens| *tokens <= most) {
        known.grow(warm, tokens).await?;
        warm = tokens;
        rows.push(known.row(tokens, rounds).await?);
        if authority.calls() != tokens {
            return Err("a token that was known was asked about".into());
        }
    }
    Ok(rows)
}

type Key = [u8; 32];

/// The layer, and a bare cache of the same keys.
struct Known {
    layer: AuthLayer,
    bare: Cache<Key, Arc<u64>>,
}

impl Known {
    async fn grow(&self, from: u64, to: u64) -> Result<(), BoxError> {
        warm_up(&self.layer, from..to).await?;
        (from..to).for_each(|number| self.bare.insert(key(number), Arc::new(number)));
        self.bare.run_pending_tasks();
        Ok(())
    }

    async fn row(&self, tokens: u64, rounds: usize) -> Result<Row, BoxError> {
        let mut random = SmallRng::seed_from_u64(tokens);
        let (mut hits, mut looks) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
        for round in 0..=rounds {
            for (index, draw) in [Draw::Uniform, Draw::Zipf].into_iter().enumerate() {
                let numbers = draw.numbers(tokens, &mut random)?;
                let hit = self.hit(&numbers).await?;
                let look = self.look(&numbers);
                // What was just made known is set in order first.
                if round > 0 {
                    hits[index].push(hit);
                    looks[index].push(look);
                }
            }
        }
        Ok(Row { tokens, hits: hits.map(median), looks: looks.map(median) })
    }

    /// What a request takes more with the layer than without it.
    async fn hit(&self, numbers: &[u64]) -> Result<f64, BoxError> {
        let bare = time(service_fn(handler), numbers).await?;
        let protected = time(self.layer.layer(service_fn(handler)), numbers).await?;
        Ok(protected - bare)
    }

    fn look(&self, numbers: &[u64]) -> f64 {
        let keys: Vec<_> = numbers.iter().copied().map(key).collect();
        let start = Instant::now();
        for key in &keys {
            black_box(self.bare.get(key));
        }
        start.elapsed().as_secs_f64() * 1e9 / keys.len() as f64
    }
}

async fn time<S, R>(mut service: S, numbers: &[u64]) -> Result<f64, BoxError>
where
    S: Service<Request<()>, Response = R>,
    S::Error: Into<BoxError>,
{
    let requests: Vec<_> = numbers.iter().copied().map(request).collect();
    let start = Instant::now();
    for request in requests {
        black_box(service.call(request).await.map_err(Into::into)?);
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / numbers.len() as f64)
}

fn key(number: u64) -> Key {
    Sha256::digest(token(number)).into()
}

/// The rows as a table.
pub struct Table(pub Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12}{:>24}{:>24}", "ns, median", "a hit of the layer", "moka's get")?;
        let heads = ["tokens", "uniform", "zipf", "uniform", "zipf"];
        writeln!(f, "{}", heads.map(|head| format!("{head:>12}")).concat())?;
        for Row { tokens, hits, looks } in &self.0 {
            let figures = [hits[0], hits[1], looks[0], looks[1]];
            let figures = figures.map(|figure| format!("{figure:>12.0}")).concat();
            writeln!(f, "{tokens:>12}{figures}")?;
        }
        let (Some(few), Some(many)) = (self.0.first(), self.0.last()) else { return Ok(()) };
        let ratios = [many.hits[0] / few.hits[0], many.hits[1] / few.hits[1]];
        let more = [many.looks[0] - few.looks[0], many.looks[1] - few.looks[1]];
        let of_hits = [many.hits[0] - few.hits[0], many.hits[1] - few.hits[1]];
        write!(
            f,
            "from the first row to the last: hits {:.2} and {:.2} times; ",
            ratios[0], ratios[1]
        )?;
        write!(f, "{:.0} and {:.0} ns more, ", of_hits[0], of_hits[1])?;
        writeln!(f, "of which moka's get {:.0} and {:.0}", more[0], more[1])
    }
}
