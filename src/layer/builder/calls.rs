//! Calls to Authlete: time, retries, concurrency.

use std::time::Duration;

use super::AuthLayerBuilder;
use crate::{
    clock::Clock,
    introspect::Check,
    lifecycle::{Refresh, Rotation},
};

impl<R> AuthLayerBuilder<R> {
    /// The API that checks tokens. Default: [`Check::Introspection`].
    pub fn check(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// How long a check may take in total: queueing, connecting, retries, and waiting for the call of another
    /// request. After that, the response is 503. Each single call also has the deadline of
    /// [`AuthleteBuilder`](crate::AuthleteBuilder::deadline). Default: 3 s; at most a day.
    pub fn check_deadline(mut self, deadline: Duration) -> Self {
        self.resilience.deadline = deadline;
        self
    }

    /// How often a failed check is retried if the connection broke or Authlete answered 429, 502, 503 or 504.
    /// The delay is random in 0 to `backoff`, doubled for each retry, or the `Retry-After` of Authlete. A retry
    /// budget of a fifth of the successful calls and one retry a second bounds the load in an outage. A call
    /// with a DPoP proof is retried only if it was never sent. Default: 1, 100 ms.
    pub fn retries(mut self, retries: u32, backoff: Duration) -> Self {
        self.resilience.retries = retries;
        self.resilience.backoff = backoff;
        self
    }

    /// A circuit breaker. It opens after `failures` consecutive failed calls. While it is open, checks are 503
    /// without a call to Authlete, for a random time in the second half of `pause`, which doubles for each
    /// further opening up to 30 s. Then one call at a time probes Authlete, and the first answer closes the
    /// breaker.
    ///
    /// A call fails if it gets no connection, no answer in time, 429 or 5xx, after its [retries](Self::retries).
    /// An answer about a token, positive or negative, is no failure, nor is a call that waited too long for a
    /// [permit](Self::max_in_flight) here. Failures of more than 30 s ago do not count. Cached answers, and stale
    /// ones within [`stale_on_error`](Self::stale_on_error), are used meanwhile.
    ///
    /// A call fails too if Authlete refuses this server's own credentials (401, or 403 with a `resultCode`).
    /// With the defaults, wrong credentials cost 5 calls and then one for each pause. Meanwhile checks are 500
    /// instead of 503, and no stale answer is used.
    ///
    /// Pauses are measured by the layer's [`clock`](Self::clock). Zero failures turn the breaker off. Default:
    /// 5, 1 s; `pause` is at most 30 s.
    pub fn breaker(mut self, failures: u32, pause: Duration) -> Self {
        self.resilience.failures = failures;
        if failures > 0 {
            self.resilience.pause = pause;
        }
        self
    }

    /// How many checks may call Authlete at the same time. Default: 256; at least 1.
    pub fn max_in_flight(mut self, max_in_flight: usize) -> Self {
        self.resilience.max_in_flight = max_in_flight;
        self
    }

    /// How many further calls may wait for one of those in flight to end; beyond that, the response is 503 at
    /// once. Default: 1024.
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.resilience.max_waiting = max_waiting;
        self
    }

    /// The clock by which expiry and ages are judged. Ages of cached answers are bounded by a monotonic clock
    /// too. Default: the system's.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Extends the life of tokens in use. Default: off.
    pub fn refresh(self, refresh: Refresh) -> Self {
        Self { refresh: Some(refresh), ..self }
    }

    /// Gives tokens in use new values at intervals. Default: off.
    pub fn rotate(self, rotation: Rotation) -> Self {
        Self { rotation: Some(rotation), ..self }
    }
}
