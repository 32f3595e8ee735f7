//! Real or frozen time.

use std::time::Duration;

/// The time scale of a simulation.
#[derive(Clone, Copy)]
pub(crate) struct TimeScale {
    /// The duration of a second of the layers' settings.
    pub(crate) second: Duration,
    /// Whether time is frozen unless the driver moves it.
    pub(crate) frozen: bool,
    /// No call and no check takes longer.
    pub(crate) deadline: Duration,
}

impl TimeScale {
    pub(crate) fn seconds(self, seconds: u32) -> Duration {
        self.second * seconds
    }

    /// How much the clocks of layers may lag.
    pub(crate) fn lag(self) -> Duration {
        if self.frozen { Duration::ZERO } else { Duration::from_millis(20) }
    }
}
