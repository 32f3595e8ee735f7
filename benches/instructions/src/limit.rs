//! What one kind of request may take.

use crate::callgrind::Count;

/// What one kind of request takes, and how much more it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) count: Count,
    pub(crate) tolerance_percent: f64,
}
