//! Settings of calls, and which of them are retried.

use std::time::Duration;

use super::breaker;
use crate::{
    api::{ConfigError, Error},
    clock::DAY,
};

/// Settings of a [`ResilientClient`](super::ResilientClient).
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResiliencePolicy {
    /// The deadline of a check, with its retries and the wait for a permit.
    pub(crate) deadline: Duration,
    /// The maximum number of retries.
    pub(crate) retries: u32,
    /// The upper bound of the random pause before the first retry; it doubles with each retry.
    pub(crate) backoff: Duration,
    /// After how many failures in a row the breaker opens; 0: never.
    pub(crate) failures: u32,
    /// For how long it first opens. During that time after any failure, requests with a stale entry do not
    /// wait for a call.
    pub(crate) pause: Duration,
    /// The maximum number of concurrent calls.
    pub(crate) max_in_flight: usize,
    /// The maximum number of checks that wait for a permit.
    pub(crate) max_waiting: usize,
}

impl Default for ResiliencePolicy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(3),
            retries: 1,
            backoff: Duration::from_millis(100),
            failures: 5,
            pause: Duration::from_secs(1),
            max_in_flight: 256,
            max_waiting: 1024,
        }
    }
}

impl ResiliencePolicy {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.deadline.is_zero() || self.deadline > DAY {
            let problem = format!("{} s", self.deadline.as_secs());
            let remedy = "give a check some time, a day at most";
            return Err(ConfigError::new("check_deadline", problem, remedy));
        }
        if self.pause.is_zero() || self.pause > breaker::LONGEST {
            let problem = format!("a pause of {} ms", self.pause.as_millis());
            let remedy = "give a pause of at most 30 s, or turn the breaker off by zero failures";
            return Err(ConfigError::new("breaker", problem, remedy));
        }
        if self.max_in_flight == 0 {
            return Err(ConfigError::new("max_in_flight", "0", "give at least 1"));
        }
        Ok(())
    }
}

/// Whether a failed call is retried.
#[derive(Clone, Copy)]
pub(crate) enum RetryMode {
    /// If the error is transient: the call is idempotent.
    Always,
    /// Only if the request was not sent.
    IfUnsent,
    Never,
}

impl RetryMode {
    pub(super) fn allows(self, error: &Error) -> bool {
        match self {
            Self::Always => error.is_retryable(),
            Self::IfUnsent => error.is_unsent(),
            Self::Never => false,
        }
    }
}
