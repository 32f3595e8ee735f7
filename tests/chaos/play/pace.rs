//! How time goes by.

use std::time::Duration;

/// How time goes by.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// How long a second of the layers' settings is.
    pub(crate) second: Duration,
    /// Whether time stands still unless it is moved.
    pub(crate) frozen: bool,
    /// No call and no check takes longer.
    pub(crate) deadline: Duration,
}

impl Pace {
    pub(crate) fn seconds(self, seconds: u32) -> Duration {
        self.second * seconds
    }

    /// How much the clocks of layers may lag.
    pub(crate) fn lag(self) -> Duration {
        if self.frozen { Duration::ZERO } else { Duration::from_millis(20) }
    }
}
