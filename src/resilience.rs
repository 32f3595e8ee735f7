//! How Authlete is asked when it is in trouble: not too often, not for too long, and not in vain.

use std::{fmt, time::Duration};

use tokio::sync::Semaphore;
use tower::retry::budget::{Budget, TpsBudget};

use crate::api::{ConfigError, Error, ErrorKind};

/// How a retry is paid for: of a hundred calls that succeed, twenty may be retries, and one a second
/// in any case.
const BUDGET: (Duration, u32, f32) = (Duration::from_secs(10), 1, 0.2);

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
    in_flight: Semaphore,
    budget: TpsBudget,
}

impl Caller {
    pub(crate) fn new(patience: Patience) -> Self {
        let (span, min_per_second, part) = BUDGET;
        Self {
            patience,
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

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("patience", &self.patience).finish_non_exhaustive()
    }
}
