//! Figures of many turns.

use std::fmt;

/// What was read in each turn.
#[derive(Debug, Default, Clone)]
pub struct Figures(Vec<f64>);

impl Figures {
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// What this share of turns did not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// Turn by turn: neighbours in time share the machine's moods.
    #[must_use]
    pub fn over(&self, others: &Self) -> Self {
        self.0.iter().zip(&others.0).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// Turn by turn.
    #[must_use]
    pub fn less(&self, others: &Self) -> Self {
        self.0.iter().zip(&others.0).map(|(ours, theirs)| ours - theirs).collect()
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

/// The median, and between what nine of ten turns were.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (decimals, width) = (f.precision().unwrap_or(0), f.width().unwrap_or(0));
        let [low, middle, high] = [0.05, 0.5, 0.95].map(|share| self.quantile(share));
        let text = format!("{middle:.decimals$} ({low:.decimals$} to {high:.decimals$})");
        write!(f, "{text:>width$}")
    }
}
