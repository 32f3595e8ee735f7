//! What `load` and `memory` are made of.

pub mod authority;
pub mod client;
pub mod compare;
pub mod cores;
pub mod flood;
pub mod server;
pub mod tokens;

/// Whatever goes wrong ends the program.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Of an even number of figures, the upper one in the middle.
fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
