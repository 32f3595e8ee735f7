//! What operators see: rate-limited log lines, and counters.

pub(crate) mod counters;
mod log;

pub(crate) use self::log::{LogLimit, limited};
