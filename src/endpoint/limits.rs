//! Limits of concurrency and time.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{api::Problems, clock::DAY};

/// Limits of an endpoint's concurrency and of the time that a request may take.
///
/// Requests to an endpoint need no valid credentials, and share the [`Authlete`](crate::Authlete) client
/// with checks of access tokens. These limits keep a flood of them from using all of its capacity.
///
/// | limit | default | beyond it |
/// |---|---|---|
/// | [`max_in_flight`](Self::max_in_flight) | 16 | the request waits |
/// | [`max_waiting`](Self::max_waiting) | 256 | 503 at once, `Retry-After: 1` |
/// | [`body_timeout`](Self::body_timeout) | 5 s | 408 |
/// | [`deadline`](Self::deadline) | 10 s | 503, `Retry-After: 1` |
/// | size of a body | 64 KiB, fixed | 413 |
///
/// Each endpoint has limits of its own, which its clones share. If the client's
/// [transport](crate::AuthleteBuilder::transport) limits concurrent calls, that limit must exceed the sum
/// of `max_in_flight` of all endpoints, so that checks never wait behind them. Otherwise give the endpoints
/// an [`Authlete`](crate::Authlete) of their own.
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
    pub(super) body_timeout: Duration,
    pub(super) deadline: Duration,
}

impl Limits {
    /// The defaults of the table above.
    pub fn new() -> Self {
        Self {
            max_in_flight: 16,
            max_waiting: 256,
            body_timeout: Duration::from_secs(5),
            deadline: Duration::from_secs(10),
        }
    }

    /// How many requests may call Authlete at the same time. A request whose client has disconnected counts
    /// until Authlete has answered. Default: 16; at least 1.
    pub fn max_in_flight(self, max_in_flight: usize) -> Self {
        Self { max_in_flight, ..self }
    }

    /// How many further requests may wait until one of those in flight has ended. They are served in the
    /// order in which their bodies were complete. Default: 256; 0 turns waiting off.
    pub fn max_waiting(self, max_waiting: usize) -> Self {
        Self { max_waiting, ..self }
    }

    /// How long a client may take to send the body of its request. A request counts for the other limits
    /// once its body is complete, so that slow clients occupy none of them. Default: 5 s; more than 0, at
    /// most a day.
    pub fn body_timeout(self, body_timeout: Duration) -> Self {
        Self { body_timeout, ..self }
    }

    /// How long a request may take in total: reading, waiting, calls to Authlete and the
    /// [decision](super::TokenEndpointBuilder::decide). A call to Authlete that is not answered by then
    /// counts as carried out: the tokens that it may have ended are invalidated. Default: 10 s; more than 0,
    /// at most a day.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        if self.max_in_flight == 0 {
            problems.add("limits.max_in_flight", "0", "give at least 1");
        }
        for (setting, time) in
            [("limits.body_timeout", self.body_timeout), ("limits.deadline", self.deadline)]
        {
            if time.is_zero() || time > DAY {
                let problem = format!("{} s", time.as_secs());
                problems.add(setting, problem, "give some time, a day at most");
            }
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// The permits of an endpoint.
///
/// `tower::limit::ConcurrencyLimit` releases its permit when the response future is dropped, but the work
/// of an endpoint goes on after that.
pub(super) struct ConcurrencyLimit {
    /// A permit for each request in flight or waiting.
    admitted: Arc<Semaphore>,
    /// A permit for each request in flight.
    in_flight: Arc<Semaphore>,
}

impl ConcurrencyLimit {
    pub(super) fn new(limits: Limits) -> Self {
        let Limits { max_in_flight, max_waiting, .. } = limits;
        let semaphore =
            |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let admitted = semaphore(max_in_flight.saturating_add(max_waiting));
        Self { admitted, in_flight: semaphore(max_in_flight) }
    }

    /// Admits a request, in flight or waiting; `None` at the limit.
    pub(super) fn try_admit(&self) -> Option<OwnedSemaphorePermit> {
        self.admitted.clone().try_acquire_owned().ok()
    }

    /// Waits until an admitted request may call Authlete. `None` is unreachable, since the semaphore is
    /// never closed.
    pub(super) async fn start(&self) -> Option<OwnedSemaphorePermit> {
        self.in_flight.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_limit_is_named() {
        let limits = Limits::new();
        let wrong = |limits: Limits| Problems::of(|problems| limits.validate(problems));
        for (it, setting) in [
            (limits.max_in_flight(0), "limits.max_in_flight"),
            (limits.body_timeout(Duration::ZERO), "limits.body_timeout"),
            (limits.deadline(Duration::MAX), "limits.deadline"),
        ] {
            assert!(wrong(it).unwrap_err().iter().map(|it| it.setting()).eq([setting]));
        }
        let most = limits.max_in_flight(usize::MAX).max_waiting(usize::MAX);
        wrong(most).unwrap();
        assert!(ConcurrencyLimit::new(most).try_admit().is_some());
        assert!(wrong(limits.max_waiting(0)).is_ok());
    }
}
