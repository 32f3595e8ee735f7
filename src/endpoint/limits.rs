//! How much an endpoint takes of this server and of Authlete.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{api::ConfigError, clock::DAY};

/// How much an endpoint takes of this server and of Authlete. Anybody may send requests to an endpoint,
/// and they go to Authlete by the same client as checks of access tokens do: these limits keep them from
/// taking all of it.
///
/// | limit | default | beyond it |
/// |---|---|---|
/// | [`max_in_flight`](Self::max_in_flight) | 16 | the request waits |
/// | [`max_waiting`](Self::max_waiting) | 256 | 503 at once, `Retry-After: 1` |
/// | [`body_timeout`](Self::body_timeout) | 5 s | 408 |
/// | [`deadline`](Self::deadline) | 10 s | 503, `Retry-After: 1` |
/// | size of a request | 64 KiB, fixed | 413 |
///
/// Each endpoint has limits of its own, which its clones share. If the client's
/// [transport](crate::AuthleteBuilder::transport) allows only so many calls at a time, that must be more
/// than `max_in_flight` of all endpoints together, so that checks never wait behind them; else give the
/// endpoints an [`Authlete`](crate::Authlete) of their own.
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::endpoint::Limits;
///
/// let limits = Limits::new().max_in_flight(64).deadline(Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Limits {
    max_in_flight: usize,
    max_waiting: usize,
    body_timeout: Duration,
    deadline: Duration,
}

impl Limits {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            max_in_flight: 16,
            max_waiting: 256,
            body_timeout: Duration::from_secs(5),
            deadline: Duration::from_secs(10),
        }
    }

    /// For how many requests Authlete is asked at a time. A request whose client has gone away counts
    /// until Authlete has answered. Default: 16; at least 1.
    pub fn max_in_flight(self, max_in_flight: usize) -> Self {
        Self { max_in_flight, ..self }
    }

    /// How many further requests can wait for their turn, which comes in the order in which they were
    /// read. Default: 256.
    pub fn max_waiting(self, max_waiting: usize) -> Self {
        Self { max_waiting, ..self }
    }

    /// How long a client may take to send the body of its request. Those who are slow take no place of
    /// others: a request counts once it was read. Default: 5 s; at most a day.
    pub fn body_timeout(self, body_timeout: Duration) -> Self {
        Self { body_timeout, ..self }
    }

    /// How long a request may take in all: reading it, waiting for its turn, calls to Authlete and the
    /// decision about it. What was asked of Authlete by then and not answered counts as done here:
    /// nothing that it may have ended is used. Default: 10 s; at most a day.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.max_in_flight == 0 {
            return Err(ConfigError::new("limits.max_in_flight", "0", "give at least 1"));
        }
        for (setting, time) in
            [("limits.body_timeout", self.body_timeout), ("limits.deadline", self.deadline)]
        {
            if time.is_zero() || time > DAY {
                let problem = format!("{} s", time.as_secs());
                return Err(ConfigError::new(setting, problem, "give some time, a day at most"));
            }
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// An endpoint's share, as far as it is taken.
///
/// `tower::limit` does not serve: its permit goes with the response future, and the work of an endpoint
/// outlives that.
pub(super) struct Share {
    pub(super) body_timeout: Duration,
    pub(super) deadline: Duration,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Share {
    pub(super) fn new(limits: Limits) -> Self {
        let Limits { max_in_flight, max_waiting, body_timeout, deadline } = limits;
        let semaphore =
            |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let places = semaphore(max_in_flight.saturating_add(max_waiting));
        Self { body_timeout, deadline, places, turns: semaphore(max_in_flight) }
    }

    /// A place of a request that is answered or waits for its turn, if there is one.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// The turn of a request that has a place. The semaphore is never closed.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turns.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_limit_is_named() {
        let limits = Limits::new();
        for (wrong, setting) in [
            (limits.max_in_flight(0), "limits.max_in_flight"),
            (limits.body_timeout(Duration::ZERO), "limits.body_timeout"),
            (limits.deadline(Duration::MAX), "limits.deadline"),
        ] {
            assert_eq!(wrong.validate().unwrap_err().setting(), setting);
        }
        let most = limits.max_in_flight(usize::MAX).max_waiting(usize::MAX);
        most.validate().unwrap();
        assert!(Share::new(most).place().is_some());
        assert!(limits.max_waiting(0).validate().is_ok());
    }
}
