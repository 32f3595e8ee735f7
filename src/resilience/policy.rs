//! Settings of calls, and which of them are retried.

use std::time::Duration;

use super::breaker;
use crate::{
    api::{Error, Problems},
    clock::DAY,
};

/// How calls of Authlete are made that may fail: time, retries, circuit breaker, concurrency.
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::resilience::{Breaker, Resilience, Retry};
///
/// let resilience = Resilience::new()
///     .deadline(Duration::from_secs(3))
///     .retry(Retry::times(1).backoff(Duration::from_millis(100)))
///     .breaker(Breaker::after(5).pause(Duration::from_secs(1)))
///     .max_in_flight(256);
/// ```
///
/// | setting | unit | default | bounds | beyond it |
/// |---|---|---|---|---|
/// | [`deadline`](Self::deadline) | duration | 3 s | more than 0, at most a day | 503 |
/// | [`retry`](Self::retry) | [`Retry`] | once, after up to 100 ms | | 503 |
/// | [`breaker`](Self::breaker) | [`Breaker`] | after 5 failures, for 1 s | | 503 at once |
/// | [`max_in_flight`](Self::max_in_flight) | checks | 256 | at least 1 | the check waits |
/// | [`max_waiting`](Self::max_waiting) | checks | 1024 | | 503 at once |
///
/// # Errors
/// A value out of bounds is an error when the layer is [built](crate::AuthLayerBuilder::build), which
/// names the setting, such as `resilience.deadline`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "settings do nothing until they are given to a layer"]
pub struct Resilience {
    pub(crate) deadline: Duration,
    pub(super) retry: Retry,
    pub(super) breaker: Breaker,
    pub(crate) max_in_flight: usize,
    pub(crate) max_waiting: usize,
}

impl Resilience {
    /// The defaults of the table above.
    pub const fn new() -> Self {
        Self {
            deadline: Duration::from_secs(3),
            retry: Retry::times(1),
            breaker: Breaker::after(5),
            max_in_flight: 256,
            max_waiting: 1024,
        }
    }

    /// How long a check may take in total: queueing, connecting, retries, and waiting for the call of another
    /// request. After that, the response is 503. Each single call also has the deadline of
    /// [`AuthleteBuilder`](crate::api::AuthleteBuilder::deadline). Default: 3 s; more than 0, at most a day.
    pub const fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// How often a failed check is retried. Default: [`Retry::times(1)`](Retry::times).
    pub const fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// After how many failures no call is made for a while. Default: [`Breaker::after(5)`](Breaker::after).
    pub const fn breaker(self, breaker: Breaker) -> Self {
        Self { breaker, ..self }
    }

    /// How many checks may call Authlete at the same time. Default: 256; at least 1.
    pub const fn max_in_flight(self, max_in_flight: usize) -> Self {
        Self { max_in_flight, ..self }
    }

    /// How many further calls may wait for one of those in flight to end; beyond that, the response is 503 at
    /// once. Default: 1024; 0 turns waiting off.
    pub const fn max_waiting(self, max_waiting: usize) -> Self {
        Self { max_waiting, ..self }
    }

    pub(crate) fn validate(&self, problems: &mut Problems) {
        if self.deadline.is_zero() || self.deadline > DAY {
            let problem = format!("{} s", self.deadline.as_secs());
            let remedy = "give a check some time, a day at most";
            problems.add("resilience.deadline", problem, remedy);
        }
        self.breaker.validate(problems);
        if self.max_in_flight == 0 {
            problems.add("resilience.max_in_flight", "0", "give at least 1");
        }
    }
}

impl Default for Resilience {
    fn default() -> Self {
        Self::new()
    }
}

/// How often a failed check is retried, and after what pause.
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::resilience::{Resilience, Retry};
///
/// let patient = Resilience::new().retry(Retry::times(3).backoff(Duration::from_millis(50)));
/// let once = Resilience::new().retry(Retry::disabled());
/// ```
///
/// | setting | unit | default | bounds |
/// |---|---|---|---|
/// | [`times`](Self::times) | retries | 1 | 0: none |
/// | [`backoff`](Self::backoff) | duration | 100 ms | within the [deadline](Resilience::deadline) of the check |
///
/// A check is retried if the connection broke or Authlete answered 429, 502, 503 or 504. A retry budget of a
/// fifth of the successful calls and one retry a second bounds the load in an outage. A call with a DPoP proof
/// is retried only if it was never sent.
///
/// # Errors
/// None: all values are legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "settings do nothing until they are given to a layer"]
pub struct Retry {
    pub(super) times: u32,
    pub(super) backoff: Duration,
}

impl Retry {
    /// So many retries at most, with a backoff of 100 ms.
    pub const fn times(times: u32) -> Self {
        Self { times, backoff: Duration::from_millis(100) }
    }

    /// No retries.
    pub const fn disabled() -> Self {
        Self::times(0)
    }

    /// The upper bound of the pause before the first retry; it doubles with each further one. The pause is
    /// random in 0 to this bound, or the `Retry-After` of Authlete. A retry that could not begin before the
    /// check's deadline is not made. Default: 100 ms.
    pub const fn backoff(self, backoff: Duration) -> Self {
        Self { backoff, ..self }
    }
}

/// A circuit breaker, which opens after consecutive failed calls.
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::resilience::{Breaker, Resilience};
///
/// let resilience = Resilience::new().breaker(Breaker::after(3).pause(Duration::from_secs(2)));
/// let never_opens = Resilience::new().breaker(Breaker::disabled());
/// ```
///
/// | setting | unit | default | bounds |
/// |---|---|---|---|
/// | [`after`](Self::after) | failed calls in a row | 5 | at least 1; more than 65 535 count as so many |
/// | [`pause`](Self::pause) | duration | 1 s | more than 0, at most 30 s |
///
/// While it is open, checks are 503 without a call to Authlete, for a random time in the second half of the
/// pause, which doubles for each further opening up to 30 s. Then one call at a time probes Authlete, and the
/// first answer closes the breaker.
///
/// A call fails if it gets no connection, no answer in time, 429 or 5xx, after its [retries](Retry). An answer
/// about a token, positive or negative, is no failure, nor is a call that waited too long for a
/// [permit](Resilience::max_in_flight) here. Failures of more than 30 s ago do not count. Cached answers, and
/// stale ones within [`stale_if_error`](crate::CachePolicy::stale_if_error), are used meanwhile.
///
/// A call fails too if Authlete refuses this server's own credentials (401, or 403 with a `resultCode`). With
/// the defaults, wrong credentials cost 5 calls and then one for each pause. Meanwhile checks are 500 instead of
/// 503, and no stale answer is used.
///
/// Pauses are measured by the layer's [`clock`](crate::AuthLayerBuilder::clock).
///
/// # Errors
/// A value out of bounds is an error when the layer is [built](crate::AuthLayerBuilder::build), which
/// names `resilience.breaker.after` or `resilience.breaker.pause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "settings do nothing until they are given to a layer"]
pub struct Breaker {
    /// `None`: it never opens.
    pub(super) after: Option<u32>,
    /// During that time after any failure, requests with a stale entry do not wait for a call, even if it never
    /// opens.
    pub(super) pause: Duration,
}

impl Breaker {
    /// Opens after so many failed calls in a row, at least 1, for a pause of 1 s.
    pub const fn after(failures: u32) -> Self {
        Self { after: Some(failures), pause: Duration::from_secs(1) }
    }

    /// Never opens.
    pub const fn disabled() -> Self {
        Self { after: None, pause: Duration::from_secs(1) }
    }

    /// For how long it first opens. During that time after any failure, requests with a stale entry do not wait
    /// for a call. Default: 1 s; more than 0, at most 30 s.
    pub const fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    fn validate(&self, problems: &mut Problems) {
        if self.after == Some(0) {
            let remedy = "give at least 1, or turn the breaker off by Breaker::disabled()";
            problems.add("resilience.breaker.after", "0", remedy);
        }
        if self.pause.is_zero() || self.pause > breaker::LONGEST {
            let problem = format!("{} ms", self.pause.as_millis());
            let remedy =
                "give a pause of at most 30 s, or turn the breaker off by Breaker::disabled()";
            problems.add("resilience.breaker.pause", problem, remedy);
        }
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
