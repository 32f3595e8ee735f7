//! Random pauses, so that clients do not retry at the same time.

use std::time::Duration;

/// A random duration from zero up to `span`, which is excluded.
pub(super) fn jittered(span: Duration) -> Duration {
    // The keys of `RandomState` are random.
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    // Less than 1: `mul_f64` by 1 overflows for `Duration::MAX`.
    let part = f64::from(u32::try_from(random >> 32).unwrap_or(0)) / 2_f64.powi(32);
    span.mul_f64(part)
}
