//! The outcome of recent calls, and the health that follows from it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use super::{
    breaker::{BreakerState, CircuitBreaker, Permit},
    policy::Breaker,
};
use crate::{api::Error, clock::millis};

/// The outcome of recent calls, for [`Health`] and the circuit breaker. Times are in ms since the epoch; 0:
/// none.
pub(crate) struct HealthRecord {
    last_success: AtomicU64,
    last_failure: AtomicU64,
    credentials_refused: AtomicBool,
    pub(crate) breaker: CircuitBreaker,
}

impl HealthRecord {
    pub(super) fn new(breaker: Breaker) -> Self {
        Self {
            last_success: AtomicU64::new(0),
            last_failure: AtomicU64::new(0),
            credentials_refused: AtomicBool::new(false),
            breaker: CircuitBreaker::new(breaker, "Authlete"),
        }
    }

    /// Records the outcome of a check.
    pub(crate) fn add(&self, succeeded: bool, now: SystemTime) {
        let last = if succeeded { &self.last_success } else { &self.last_failure };
        last.store(millis(now), Ordering::Relaxed);
    }

    /// Records the outcome of a call with this permit of the breaker. `now`: ms since the epoch.
    pub(crate) fn end(&self, permit: Permit<'_>, error: Option<&Error>, now: u64) {
        let refused = error.is_some_and(Error::refuses_credentials);
        self.credentials_refused.store(refused, Ordering::Relaxed);
        permit.end(error, now);
    }

    /// Whether Authlete refused the last call that ended because of this server's credentials.
    pub(crate) fn credentials_refused(&self) -> bool {
        self.credentials_refused.load(Ordering::Relaxed)
    }

    pub(crate) fn availability(&self, now: SystemTime) -> Availability {
        let last = |last: &AtomicU64| last.load(Ordering::Relaxed);
        Availability {
            is_down: self.breaker.is_down(millis(now)),
            breaker: self.breaker.state(millis(now)),
            credentials_refused: self.credentials_refused(),
            was_answered: last(&self.last_success) >= last(&self.last_failure),
        }
    }

    pub(crate) fn health(&self, entries: u64, in_flight: usize, now: SystemTime) -> Health {
        let at = |last: &AtomicU64| {
            let millis = last.load(Ordering::Relaxed);
            (millis > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
        };
        Health {
            last_success: at(&self.last_success),
            last_failure: at(&self.last_failure),
            breaker: self.breaker.state(millis(now)),
            credentials_refused: self.credentials_refused(),
            entries,
            in_flight,
            is_isolated: false,
        }
    }
}

/// Whether Authlete can be called, as the recent calls tell.
pub(crate) struct Availability {
    /// Calls fail at present: the breaker is not closed, or the last call failed within its pause.
    pub(crate) is_down: bool,
    pub(crate) breaker: BreakerState,
    /// Authlete refused the last call that ended because of this server's credentials.
    pub(crate) credentials_refused: bool,
    /// The last check that ended was answered.
    pub(crate) was_answered: bool,
}

impl Availability {
    /// Whether checks are answered, and calls are made.
    pub(crate) fn answers(&self) -> bool {
        self.was_answered && !self.is_down
    }

    /// Whether a call in the background may succeed, or ends the outage.
    pub(crate) fn allows_revalidation(&self) -> bool {
        !self.is_down || self.breaker == BreakerState::HalfOpen
    }
}

/// The state of a layer and of its connection to Authlete, for a readiness probe.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// When Authlete last answered a check, whatever the verdict.
    pub last_success: Option<SystemTime>,
    /// When a check last failed, without a verdict.
    pub last_failure: Option<SystemTime>,
    /// The state of the circuit breaker.
    pub breaker: BreakerState,
    /// Whether Authlete refused the last call because of this server's credentials: by 401, or by 403
    /// with a `resultCode`. It counts as a failure for the circuit breaker; requests that need a call are
    /// refused with 500, also while it is open, and no stale entry is used.
    pub credentials_refused: bool,
    /// The approximate number of cached tokens that are valid.
    pub entries: u64,
    /// The number of calls in flight.
    pub in_flight: usize,
    /// Whether the layer belongs to a fleet and hears of no invalidations at present: Redis cannot be reached. It
    /// serves requests all the same.
    pub is_isolated: bool,
}

impl Health {
    /// Whether Authlete answered the last check.
    ///
    /// A server that gets no requests while it is not ready makes no checks, and stays so: let the probe call
    /// [`AuthHandle::warm_up`](crate::AuthHandle::warm_up) then.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.last_success.is_some() && self.last_success >= self.last_failure
    }
}
