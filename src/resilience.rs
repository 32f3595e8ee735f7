//! Calls of Authlete with a deadline, a concurrency limit, retries within a budget, and a circuit breaker.
//!
//! The budget is tower's [`TpsBudget`]. tower's other layers do not serve: a check that waits for a permit of
//! the concurrency limit until its deadline is no failure of Authlete, and tower has no circuit breaker.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tower::retry::budget::{Budget, TpsBudget};

use crate::{
    api::{ConfigError, Error, ErrorKind},
    clock::{DAY, millis},
};

mod breaker;
mod jitter;

pub use self::breaker::BreakerState;
use self::{
    breaker::{Breaker, Permit},
    jitter::jittered,
};

/// The retry budget: within this time, one retry a second and 0.2 retries for each call that succeeds.
const BUDGET: (Duration, u32, f32) = (Duration::from_secs(10), 1, 0.2);

/// The outcome of recent calls, for [`Health`] and the circuit breaker. Times are in ms since the epoch; 0:
/// none.
pub(crate) struct Record {
    last_success: AtomicU64,
    last_failure: AtomicU64,
    credentials_refused: AtomicBool,
    pub(crate) breaker: Breaker,
}

impl Record {
    fn new(policy: &ResiliencePolicy) -> Self {
        Self {
            last_success: AtomicU64::new(0),
            last_failure: AtomicU64::new(0),
            credentials_refused: AtomicBool::new(false),
            breaker: Breaker::new(policy.failures, policy.pause),
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

    /// Whether calls fail at present: the breaker is not closed, or the last call failed within its pause.
    pub(crate) fn is_down(&self, now: SystemTime) -> bool {
        self.breaker.is_down(millis(now))
    }

    /// Whether the last check that ended was answered.
    pub(crate) fn was_answered(&self) -> bool {
        self.last_success.load(Ordering::Relaxed) >= self.last_failure.load(Ordering::Relaxed)
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
        }
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

/// Settings of a [`ResilientClient`].
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
    fn allows(self, error: &Error) -> bool {
        match self {
            Self::Always => error.is_retryable(),
            Self::IfUnsent => error.is_unsent(),
            Self::Never => false,
        }
    }
}

/// The end of the time for a check.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The outcome; `None` if the deadline elapses first.
    pub(crate) async fn wait<T>(&self, outcome: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.0, outcome).await.ok()
    }
}

/// Makes calls by a policy.
pub(crate) struct ResilientClient {
    pub(crate) policy: ResiliencePolicy,
    pub(crate) record: Record,
    /// The permits of the concurrency limit. Never closed.
    in_flight: Semaphore,
    budget: TpsBudget,
}

impl ResilientClient {
    pub(crate) fn new(policy: ResiliencePolicy) -> Self {
        let (span, min_per_second, part) = BUDGET;
        let max_in_flight = policy.max_in_flight.min(Semaphore::MAX_PERMITS);
        let policy = ResiliencePolicy { max_in_flight, ..policy };
        Self {
            policy,
            record: Record::new(&policy),
            in_flight: Semaphore::new(policy.max_in_flight),
            budget: TpsBudget::new(span, min_per_second, part),
        }
    }

    /// The deadline of a check that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline(Instant::now() + self.policy.deadline)
    }

    /// The deadline of an extension that begins now, as part of a check: it leaves the check a quarter of its
    /// time to ask again.
    pub(crate) fn deadline_of_extension(&self) -> Deadline {
        Deadline(Instant::now() + self.policy.deadline / 4 * 3)
    }

    /// The number of calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.policy.max_in_flight - self.in_flight.available_permits()
    }

    /// Makes a call within the concurrency limit. `None` if the deadline elapses, and the call had to wait for
    /// its permit for more than half of the time: that is no failure of Authlete.
    pub(crate) async fn check<T, F>(
        &self,
        api: &'static str,
        mode: RetryMode,
        attempt: impl Fn() -> F,
    ) -> Option<Result<T, Error>>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (began, acquired) = (Instant::now(), OnceLock::new());
        let outcome = self.call(api, mode, || self.with_permit(&acquired, attempt())).await;
        let deadline = self.policy.deadline;
        let late = outcome.is_err() && began.elapsed() >= deadline;
        let waited = || acquired.get().is_none_or(|at| *at - began > deadline / 2);
        (!late || !waited()).then_some(outcome)
    }

    /// Makes a call regardless of the concurrency limit.
    pub(crate) async fn call<T, F>(
        &self,
        api: &'static str,
        mode: RetryMode,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = self.policy.deadline;
        match tokio::time::timeout(deadline, self.attempts(mode, attempt)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error { api, kind: ErrorKind::Deadline(deadline) }),
        }
    }

    async fn attempts<T, F>(&self, mode: RetryMode, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (began, mut backoff) = (Instant::now(), self.policy.backoff);
        for _ in 0..self.policy.retries {
            let error = match attempt().await {
                Ok(answer) => {
                    self.budget.deposit();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // No retry before the time of `Retry-After` (RFC 9110 §10.2.3).
            let pause = error.retry_after().unwrap_or_else(|| jittered(backoff));
            let in_time = began.elapsed().saturating_add(pause) < self.policy.deadline;
            if !mode.allows(&error) || !in_time || !self.budget.withdraw() {
                return Err(error);
            }
            tracing::debug!(error = &error as &dyn std::error::Error, "a call is made again");
            tokio::time::sleep(pause).await;
            backoff = backoff.saturating_mul(2);
        }
        attempt().await
    }

    /// Makes an attempt with a permit, and stores when the first one was acquired.
    async fn with_permit<F: Future>(&self, acquired: &OnceLock<Instant>, attempt: F) -> F::Output {
        let _permit = self.in_flight.acquire().await.ok();
        acquired.get_or_init(Instant::now);
        attempt.await
    }
}
