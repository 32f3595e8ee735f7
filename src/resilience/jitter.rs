//! Random spans, so that not all come back at once.

use std::time::Duration;

/// A random part of a span.
pub(super) fn jittered(span: Duration) -> Duration {
    // A hasher with random keys is the standard library's source of randomness.
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    // Less than 1, or the longest span would be too long.
    let part = f64::from(u32::try_from(random >> 32).unwrap_or(0)) / 2_f64.powi(32);
    span.mul_f64(part)
}
