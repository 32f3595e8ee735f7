//! How calls of Authlete are made that may fail: a deadline, a concurrency limit, retries within a budget, and
//! a circuit breaker.
//!
//! ```
//! use std::time::Duration;
//! use tower_authlete::{
//!     AuthLayer, Authlete,
//!     resilience::{Breaker, Resilience, Retry},
//! };
//!
//! # fn example(authlete: Authlete) -> Result<(), tower_authlete::ConfigError> {
//! let resilience = Resilience::new()
//!     .deadline(Duration::from_secs(3))
//!     .retry(Retry::times(1).backoff(Duration::from_millis(100)))
//!     .breaker(Breaker::after(5).pause(Duration::from_secs(1)));
//! let auth = AuthLayer::builder(authlete).resilience(resilience).build()?;
//! # let _ = auth;
//! # Ok(())
//! # }
//! ```

// The budget is tower's `TpsBudget`. tower's other layers do not serve: a check that waits for a permit of the
// concurrency limit until its deadline is no failure of Authlete, and tower has no circuit breaker.

use std::{sync::OnceLock, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tower::retry::budget::{Budget, TpsBudget};

use crate::api::{Error, ErrorKind};

mod breaker;
mod health;
mod jitter;
mod policy;

#[cfg(feature = "redis")]
pub(crate) use self::breaker::CircuitBreaker;
pub(crate) use self::health::Availability;
pub(crate) use self::policy::RetryMode;
pub use self::{
    breaker::BreakerState,
    health::Health,
    policy::{Breaker, Resilience, Retry},
};
use self::{health::HealthRecord, jitter::jittered};

/// The retry budget: within this time, one retry a second and 0.2 retries for each call that succeeds.
const BUDGET: (Duration, u32, f32) = (Duration::from_secs(10), 1, 0.2);

/// The end of the time for a check.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// One that elapses after this time.
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The outcome; `None` if the deadline elapses first.
    pub(crate) async fn wait<T>(&self, outcome: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.0, outcome).await.ok()
    }
}

/// Makes calls by a policy.
pub(crate) struct ResilientClient {
    pub(crate) policy: Resilience,
    pub(crate) record: HealthRecord,
    /// The permits of the concurrency limit. Never closed.
    in_flight: Semaphore,
    budget: TpsBudget,
}

impl ResilientClient {
    pub(crate) fn new(policy: Resilience) -> Self {
        let (span, min_per_second, part) = BUDGET;
        let max_in_flight = policy.max_in_flight.min(Semaphore::MAX_PERMITS);
        let policy = Resilience { max_in_flight, ..policy };
        Self {
            policy,
            record: HealthRecord::new(policy.breaker),
            in_flight: Semaphore::new(policy.max_in_flight),
            budget: TpsBudget::new(span, min_per_second, part),
        }
    }

    /// The deadline of a check that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.policy.deadline)
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
        let (began, mut backoff) = (Instant::now(), self.policy.retry.backoff);
        for _ in 0..self.policy.retry.times {
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
