//! How Authlete is asked when it is in trouble: not too often, not for too long, and not in vain.

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

/// How a retry is paid for: of a hundred calls that succeed, twenty may be retries, and one a second
/// in any case.
const BUDGET: (Duration, u32, f32) = (Duration::from_secs(10), 1, 0.2);

/// What became of the calls of late. Times are in ms since the epoch; 0: none.
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

    /// Adds what became of a check.
    pub(crate) fn add(&self, succeeded: bool, now: SystemTime) {
        let last = if succeeded { &self.last_success } else { &self.last_failure };
        last.store(millis(now), Ordering::Relaxed);
    }

    /// Ends a call, which failed by `error` if there is one. `now`: ms since the epoch.
    pub(crate) fn end(&self, pass: Permit<'_>, error: Option<&Error>, now: u64) {
        let refused = error.is_some_and(Error::refuses_credentials);
        self.credentials_refused.store(refused, Ordering::Relaxed);
        pass.end(error, now);
    }

    /// Whether the last call that ended was refused because of our own credentials.
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
        }
    }
}

/// Whether Authlete can be asked, as far as the last calls tell.
pub(crate) struct Availability {
    /// It could not be asked the last time, a moment ago.
    pub(crate) is_down: bool,
    pub(crate) breaker: BreakerState,
    /// It refused the last call because of this server's own credentials.
    pub(crate) credentials_refused: bool,
    /// It answered the last check that ended.
    pub(crate) was_answered: bool,
}

impl Availability {
    /// It answers checks, and calls are made.
    pub(crate) fn answers(&self) -> bool {
        self.was_answered && !self.is_down
    }

    /// It can be asked, or somebody has to find out whether it can be asked again.
    pub(crate) fn is_worth_a_call(&self) -> bool {
        !self.is_down || self.breaker == BreakerState::HalfOpen
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
    /// Whether calls are made.
    pub breaker: BreakerState,
    /// Whether Authlete refused the last call because of this server's own credentials: it answered
    /// 401, or 403 in its own words (`resultCode`). Calls then pause as in an outage; requests that
    /// take one are 500 all the same, and nothing out of date is used.
    pub credentials_refused: bool,
    /// How many good tokens are known, roughly.
    pub entries: u64,
    /// How many calls are under way.
    pub in_flight: usize,
}

impl Health {
    /// Whether Authlete answered the last check.
    ///
    /// A server that gets no requests while it is not ready never finds out that it is again: have your
    /// probe call [`AuthHandle::warm_up`](crate::AuthHandle::warm_up) then.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.last_success.is_some() && self.last_success >= self.last_failure
    }
}

/// What a layer does about calls that take long or fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResiliencePolicy {
    /// For a check in all.
    pub(crate) deadline: Duration,
    /// How often a failed call is made again.
    pub(crate) retries: u32,
    /// Before it is made again: a random part of this, doubled each time.
    pub(crate) backoff: Duration,
    /// After how many failures in a row calls are not made for a while; 0: they always are.
    pub(crate) failures: u32,
    /// For how long, at first. Whether they are made or not, nobody waits for one in that time who
    /// can do without.
    pub(crate) pause: Duration,
    pub(crate) max_in_flight: usize,
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

/// Whether a call that failed can be made again.
#[derive(Clone, Copy)]
pub(crate) enum RetryMode {
    /// It does the same once or twice.
    Always,
    /// Only if it was never sent.
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

/// Makes calls with policy.
pub(crate) struct ResilientClient {
    pub(crate) policy: ResiliencePolicy,
    pub(crate) record: Record,
    in_flight: Semaphore,
    budget: TpsBudget,
}

/// When a check is to be over.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// What comes of it by then.
    pub(crate) async fn wait<T>(&self, outcome: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.0, outcome).await.ok()
    }
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

    /// When a check that begins now is to be over.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.policy.deadline)
    }

    /// How many calls are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.policy.max_in_flight - self.in_flight.available_permits()
    }

    /// Makes a call when it is its turn. `None` if that came too late for Authlete to be blamed: with less
    /// than half of the time left.
    pub(crate) async fn check<T, F>(
        &self,
        api: &'static str,
        again: RetryMode,
        attempt: impl Fn() -> F,
    ) -> Option<Result<T, Error>>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (began, turn) = (Instant::now(), OnceLock::new());
        let outcome = self.call(api, again, || self.in_turn(&turn, attempt())).await;
        let deadline = self.policy.deadline;
        let late = outcome.is_err() && began.elapsed() >= deadline;
        let waited = || turn.get().is_none_or(|turn| *turn - began > deadline / 2);
        (!late || !waited()).then_some(outcome)
    }

    /// Makes a call, however many others are under way.
    pub(crate) async fn call<T, F>(
        &self,
        api: &'static str,
        again: RetryMode,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = self.policy.deadline;
        match tokio::time::timeout(deadline, self.attempts(again, attempt)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error { api, kind: ErrorKind::Deadline(deadline) }),
        }
    }

    async fn attempts<T, F>(&self, again: RetryMode, attempt: impl Fn() -> F) -> Result<T, Error>
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
            // A server that says when to come back is not asked before.
            let pause = error.retry_after().unwrap_or_else(|| jittered(backoff));
            let in_time = began.elapsed().saturating_add(pause) < self.policy.deadline;
            if !again.allows(&error) || !in_time || !self.budget.withdraw() {
                return Err(error);
            }
            tracing::debug!(error = &error as &dyn std::error::Error, "a call is made again");
            tokio::time::sleep(pause).await;
            backoff = backoff.saturating_mul(2);
        }
        attempt().await
    }

    async fn in_turn<F: Future>(&self, turn: &OnceLock<Instant>, attempt: F) -> F::Output {
        // The semaphore is never closed.
        let _permit = self.in_flight.acquire().await.ok();
        turn.get_or_init(Instant::now);
        attempt.await
    }
}
