//! Contenders take turns.

use std::convert::Infallible;

use crate::contender::Contender;

/// What a contender's requests took (ns), turn by turn.
pub(crate) struct Timing(Vec<f64>);

impl Timing {
    pub(crate) fn minimum(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// What this share of turns did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        quantile(&self.0, share)
    }
}

pub(crate) fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Each contender has a turn in each round; who begins changes.
pub(crate) async fn run(
    contenders: &mut [Contender],
    rounds: usize,
    requests: usize,
) -> Result<Vec<Timing>, Infallible> {
    let mut timings: Vec<_> = contenders.iter().map(|_| Timing(Vec::new())).collect();
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            timings[index].0.push(contenders[index].time(requests).await?);
            // Servers that are idle in this thread have theirs too.
            tokio::task::yield_now().await;
        }
    }
    Ok(timings)
}
