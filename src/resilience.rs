//! How Authlete is asked when it is in trouble: not too often, not for too long, and not in vain.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use tokio::sync::Semaphore;
use tower::retry::budget::{Budget, TpsBudget};

use crate::{
    api::{ConfigError, Error, ErrorKind},
    clock::millis,
    rejection::Reason,
};

/// How a retry is paid for: of a hundred calls that succeed, twenty may be retries, and one a second
/// in any case.
const BUDGET: (Duration, u32, f32) = (Duration::from_secs(10), 1, 0.2);

/// For how long after a failure a call is not waited for by who can do without.
const DOWN: Duration = Duration::from_secs(1);

/// What became of the calls of late. Times are in ms since the epoch; 0: none.
#[derive(Debug, Default)]
pub(crate) struct Record {
    last_success: AtomicU64,
    last_failure: AtomicU64,
    /// A failure that is not this server's fault.
    last_outage: AtomicU64,
}

impl Record {
    /// Adds what became of a call: without a reason, it was answered.
    pub(crate) fn add(&self, failed: Option<Reason>, now: SystemTime) {
        let now = millis(now);
        match failed {
            None => self.last_success.store(now, Ordering::Relaxed),
            Some(_) => self.last_failure.store(now, Ordering::Relaxed),
        }
        if failed == Some(Reason::Unavailable) {
            self.last_outage.store(now, Ordering::Relaxed);
        }
    }

    /// Whether Authlete could not be asked the last time, a moment ago.
    pub(crate) fn is_down(&self, now: SystemTime) -> bool {
        let outage = self.last_outage.load(Ordering::Relaxed);
        let recent = millis(now).saturating_sub(outage) < DOWN.as_millis() as u64;
        outage > self.last_success.load(Ordering::Relaxed) && recent
    }

    pub(crate) fn health(&self, entries: u64, in_flight: usize) -> Health {
        let at = |last: &AtomicU64| {
            let millis = last.load(Ordering::Relaxed);
            (millis > 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
        };
        Health {
            last_success: at(&self.last_success),
            last_failure: at(&self.last_failure),
            entries,
            in_flight,
        }
    }
}

/// How a layer and its Authlete are doing, for a readiness probe.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// When Authlete last answered a check, whatever it said.
    pub last_success: Option<SystemTime>,
    /// When a check last failed: it says nothing about tokens.
    pub last_failure: Option<SystemTime>,
    /// How many good tokens are known, roughly.
    pub entries: u64,
    /// How many calls are under way.
    pub in_flight: usize,
}

impl Health {
    /// Whether Authlete answered the last check.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.last_success.is_some() && self.last_success >= self.last_failure
    }
}

/// What a layer does about calls that take long or fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a check in all.
    pub(crate) deadline: Duration,
    /// How often a failed call is made again.
    pub(crate) retries: u32,
    /// Before it is made again: a random part of this, doubled each time.
    pub(crate) backoff: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) max_waiting: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(3),
            retries: 1,
            backoff: Duration::from_millis(100),
            max_in_flight: 256,
            max_waiting: 1024,
        }
    }
}

impl Patience {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.deadline.is_zero() {
            return Err(ConfigError::new("check_deadline", "0", "give a check some time"));
        }
        if self.max_in_flight == 0 {
            return Err(ConfigError::new("max_in_flight", "0", "give at least 1"));
        }
        Ok(())
    }
}

/// Makes calls with patience.
pub(crate) struct Caller {
    pub(crate) patience: Patience,
    pub(crate) record: Record,
    in_flight: Semaphore,
    budget: TpsBudget,
}

impl Caller {
    pub(crate) fn new(patience: Patience) -> Self {
        let (span, min_per_second, part) = BUDGET;
        Self {
            patience,
            record: Record::default(),
            in_flight: Semaphore::new(patience.max_in_flight),
            budget: TpsBudget::new(span, min_per_second, part),
        }
    }

    /// How many calls are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.patience.max_in_flight - self.in_flight.available_permits()
    }

    /// Makes a call that can be made again, unless `once`: then only if it was never sent.
    pub(crate) async fn call<T, F>(
        &self,
        api: &'static str,
        once: bool,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = self.patience.deadline;
        match tokio::time::timeout(deadline, self.attempts(once, attempt)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error { api, kind: ErrorKind::Deadline(deadline) }),
        }
    }

    async fn attempts<T, F>(&self, once: bool, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut backoff = self.patience.backoff;
        for _ in 0..self.patience.retries {
            let error = match self.attempt(attempt()).await {
                Ok(answer) => {
                    self.budget.deposit();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let again = error.is_retryable() && (!once || error.is_unsent());
            if !again || !self.budget.withdraw() {
                return Err(error);
            }
            // A server that says when to come back is not asked before.
            let pause = error.retry_after().unwrap_or_else(|| jittered(backoff));
            if pause >= self.patience.deadline {
                return Err(error);
            }
            tracing::debug!(error = &error as &dyn std::error::Error, "a call is made again");
            tokio::time::sleep(pause).await;
            backoff *= 2;
        }
        self.attempt(attempt()).await
    }

    async fn attempt<F: Future>(&self, attempt: F) -> F::Output {
        // The semaphore is never closed.
        let _permit = self.in_flight.acquire().await.ok();
        attempt.await
    }
}

/// A random part of a span, so that not all come back at once.
fn jittered(span: Duration) -> Duration {
    // A hasher with random keys is the standard library's source of randomness.
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    span.mul_f64(f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX))
}
