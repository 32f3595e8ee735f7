//! What a hit costs, by how many tokens are known.

use std::{fmt, hint::black_box, path::Path, sync::Arc, time::Instant};

use http::Request;
use moka::sync::Cache;
use plot::{Curve, curves};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Zipf};
use sha2::{Digest, Sha256};
use tower::{Layer, Service, service_fn};
use tower_authlete::AuthLayer;

use crate::{
    BoxError,
    authority::{Authority, handler, request, token, warm_up},
    figures::Figures,
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
        let (mut hits, mut looks) = (<[Figures; 2]>::default(), <[Figures; 2]>::default());
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
        Ok(Row { tokens, hits: hits.map(|it| it.median()), looks: looks.map(|it| it.median()) })
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

/// How much slower than moka's `get` of the same key a hit may be, beside what it takes with one token.
const FACTOR: f64 = 1.3;

/// The rows as a table.
pub struct Table(pub Vec<Row>);

impl Table {
    /// Draws the rows into an SVG file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn draw(&self, file: &Path) -> Result<(), BoxError> {
        let curve = |name, ours, figure: fn(&Row) -> f64| {
            let points = self.0.iter().map(|row| (row.tokens as f64, figure(row)));
            Curve { name, points: points.collect(), ours }
        };
        let drawn = [
            curve("a hit, uniform", true, |row| row.hits[0]),
            curve("a hit, zipf", true, |row| row.hits[1]),
            curve("moka's get, uniform", false, |row| row.looks[0]),
            curve("moka's get, zipf", false, |row| row.looks[1]),
        ];
        let title = "What protection adds to a request, by how many tokens are known (ns, median)";
        curves(file, title, "tokens that are known", &drawn)
    }

    /// A hit, to what is asked for: 1 or less is met.
    fn ratios(&self, row: &Row) -> [f64; 2] {
        let hot = self.0.first().map_or([f64::NAN; 2], |row| row.hits);
        [0, 1].map(|draw| row.hits[draw] / (FACTOR * row.looks[draw] + hot[draw]))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["a hit of the layer", "moka's get", "hit / (1.3 get + hot)"];
        writeln!(f, "{:>12}{}", "ns, median", heads.map(|head| format!("{head:>24}")).concat())?;
        let heads = ["tokens", "uniform", "zipf", "uniform", "zipf", "uniform", "zipf"];
        writeln!(f, "{}", heads.map(|head| format!("{head:>12}")).concat())?;
        for row in &self.0 {
            let Row { tokens, hits, looks } = row;
            let figures = [hits[0], hits[1], looks[0], looks[1]];
            let figures = figures.map(|figure| format!("{figure:>12.0}")).concat();
            let ratios = self.ratios(row).map(|ratio| format!("{ratio:>12.2}")).concat();
            writeln!(f, "{tokens:>12}{figures}{ratios}")?;
        }
        write!(f, "hot: a hit of one token; asked for: at most 1.00")
    }
}
