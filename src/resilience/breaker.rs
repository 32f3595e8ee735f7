//! Circuit breaker: after consecutive failures no call is made for a pause, and then one probe at a time
//! until a call is answered.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::{
    jitter::jittered,
    policy::{Breaker, LONGEST_PAUSE},
};
use crate::api::Error;

/// When to retry while another call is the probe.
const SOON: Duration = Duration::from_secs(1);

/// The state of the circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// Calls failed one after another: none is made until the pause ends, and checks that need one are 503
    /// at once.
    Open,
    /// The pause has ended: one call at a time is made as a probe, until one is answered.
    HalfOpen,
}

pub(crate) struct CircuitBreaker {
    /// Whom the calls are made to, for the log.
    callee: &'static str,
    /// After how many failures in a row it opens; more than [`Run::MOST`]: never.
    limit: u32,
    pause: Duration,
    /// A [`Run`] in one word, so that it changes atomically.
    run: AtomicU64,
    probing: AtomicBool,
    /// Raised by each answer: the failure of a call that was started before the answer does not count.
    epoch: AtomicU32,
}

/// Failures in a row.
#[derive(Clone, Copy)]
struct Run {
    /// In 16 bits.
    failures: u32,
    /// When the pause after the last of them ends (ms since the epoch); in 48 bits.
    until: u64,
}

impl Run {
    const MOST: u32 = u16::MAX as u32;
    const NONE: Self = Self { failures: 0, until: 0 };

    fn packed(self) -> u64 {
        self.until << 16 | u64::from(self.failures)
    }

    fn of(packed: u64, now: u64) -> Self {
        let run = Self { failures: packed as u32 & Self::MOST, until: packed >> 16 };
        // Too long ago, or the clock was set back.
        if u128::from(run.until.abs_diff(now)) > LONGEST_PAUSE.as_millis() {
            Self::NONE
        } else {
            run
        }
    }

    /// The rest of the pause; `None` if it has ended.
    fn left(self, now: u64) -> Option<Duration> {
        let left = Duration::from_millis(self.until.saturating_sub(now));
        (!left.is_zero()).then_some(left)
    }
}

impl CircuitBreaker {
    pub(crate) fn new(settings: Breaker, callee: &'static str) -> Self {
        Self {
            callee,
            limit: settings.after.map_or(u32::MAX, |failures| failures.min(Run::MOST)),
            pause: settings.pause,
            run: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
        }
    }

    fn run(&self, now: u64) -> Run {
        Run::of(self.run.load(Ordering::Acquire), now)
    }

    fn is_open_after(&self, failures: u32) -> bool {
        failures >= self.limit
    }

    /// A permit for a call that is made in any state.
    pub(crate) fn pass(&self) -> Permit<'_> {
        Permit { breaker: self, epoch: self.epoch.load(Ordering::Acquire), probes: false }
    }

    /// A permit for a call, or the time until one may be had. `now`: ms since the epoch.
    pub(crate) fn enter(&self, now: u64) -> Result<Permit<'_>, Duration> {
        let mut permit = self.pass();
        if !self.is_open_after(self.run(now).failures) {
            return Ok(permit);
        }
        // Before the pause is read: a probe that fails in between extends it.
        permit.probes = !self.probing.swap(true, Ordering::AcqRel);
        match self.run(now).left(now) {
            Some(left) => Err(left),
            None if permit.probes => Ok(permit),
            None => Err(SOON),
        }
    }

    /// Whether it is not closed, or the last call failed within its pause: requests with a stale entry do not
    /// wait for a call then.
    pub(super) fn is_down(&self, now: u64) -> bool {
        let run = self.run(now);
        run.failures > 0 && (self.is_open_after(run.failures) || run.left(now).is_some())
    }

    pub(crate) fn state(&self, now: u64) -> BreakerState {
        let run = self.run(now);
        match run.left(now) {
            _ if !self.is_open_after(run.failures) => BreakerState::Closed,
            Some(_) => BreakerState::Open,
            None => BreakerState::HalfOpen,
        }
    }

    /// Closes the breaker: a call was answered, whatever the answer is.
    fn answered(&self, now: u64) {
        // A call that was started before and fails later does not count.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        // Failures that are too old are reset as well: they would count again if the clock is set back.
        if self.run.load(Ordering::Acquire) == Run::NONE.packed() {
            return;
        }
        if self.is_open_after(self.run(now).failures) {
            tracing::info!("{} answers again", self.callee);
        }
        self.run.store(0, Ordering::Release);
    }

    /// Counts a failure. `retry_after`: the shortest pause.
    fn failed(&self, permit: &Permit<'_>, retry_after: Duration, now: u64) {
        if permit.epoch != self.epoch.load(Ordering::Acquire) {
            return;
        }
        let next = |packed| {
            let failures = Run::of(packed, now).failures;
            // While it is open, only probes count.
            if self.is_open_after(failures) && !permit.probes {
                return None;
            }
            let failures = (failures + 1).min(Run::MOST);
            let pause = self.pause_after(failures).max(retry_after).min(LONGEST_PAUSE);
            Some(Run { failures, until: now + pause.as_millis() as u64 }.packed())
        };
        let before = self.run.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if before.is_ok_and(|before| Run::of(before, now).failures + 1 == self.limit) {
            tracing::warn!(
                failures = self.limit,
                "{} cannot be asked; further calls are refused until one is answered",
                self.callee
            );
        }
    }

    /// The pause doubles with every probe that fails, and half of it is random, so that servers do not retry
    /// at the same time.
    fn pause_after(&self, failures: u32) -> Duration {
        let probes = if self.is_open_after(failures) { failures - self.limit } else { 0 };
        let pause = self.pause.saturating_mul(1 << probes.min(16)).min(LONGEST_PAUSE);
        pause / 2 + jittered(pause / 2)
    }
}

/// Permission for a call, whose outcome is reported by [`end`](Self::end). If a probe is dropped, the next call
/// is the probe.
pub(crate) struct Permit<'b> {
    breaker: &'b CircuitBreaker,
    epoch: u32,
    probes: bool,
}

impl Permit<'_> {
    /// Whether the call is the probe of a half-open breaker.
    pub(crate) fn is_probe(&self) -> bool {
        self.probes
    }

    /// Reports the outcome of the call. An error that concerns this call alone, rather than all calls, counts
    /// as an answer.
    pub(super) fn end(self, error: Option<&Error>, now: u64) {
        let failure = error.filter(|error| error.is_outage() || error.refuses_credentials());
        self.report(failure.map(|error| error.retry_after().unwrap_or_default()), now);
    }

    /// Reports an answer, or a failure with the shortest pause after it.
    pub(crate) fn report(self, failure: Option<Duration>, now: u64) {
        match failure {
            Some(retry_after) => self.breaker.failed(&self, retry_after, now),
            None => self.breaker.answered(now),
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probes {
            self.breaker.probing.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorKind;

    const SECOND: u64 = 1000;
    const START: u64 = 2_000_000_000 * SECOND;

    /// One that opens after two failures for a second.
    fn breaker() -> CircuitBreaker {
        CircuitBreaker::new(Breaker::after(2), "Authlete")
    }

    fn failure() -> Error {
        let api = "/auth/introspection";
        Error { api, kind: ErrorKind::Deadline(Duration::ZERO) }
    }

    fn fail(breaker: &CircuitBreaker, now: u64) {
        breaker.enter(now).ok().unwrap().end(Some(&failure()), now);
    }

    fn open(now: u64) -> CircuitBreaker {
        let breaker = breaker();
        fail(&breaker, now);
        fail(&breaker, now);
        assert_eq!(breaker.state(now), BreakerState::Open);
        breaker
    }

    /// How long it stays open (ms).
    fn pause(breaker: &CircuitBreaker, now: u64) -> u64 {
        breaker.enter(now).err().map_or(0, |left| left.as_millis() as u64)
    }

    #[test]
    fn calls_that_set_out_before_an_answer_and_fail_after_it_do_not_count() {
        let breaker = breaker();
        let late = [(); 3].map(|()| breaker.enter(START).ok().unwrap());
        breaker.enter(START).ok().unwrap().end(None, START);
        late.into_iter().for_each(|permit| permit.end(Some(&failure()), START));
        assert_eq!(breaker.state(START), BreakerState::Closed);
    }

    #[test]
    fn pauses_get_longer_to_a_bound_and_are_partly_random() {
        let mut now = START;
        let breaker = open(now);
        let mut pauses = Vec::new();
        for longest in [1, 2, 4, 8, 16, 30, 30, 30] {
            let pause = pause(&breaker, now);
            assert!((longest * SECOND / 2..=longest * SECOND).contains(&pause), "{pause}");
            now += pause;
            assert_eq!(breaker.state(now - 1), BreakerState::Open);
            assert_eq!(breaker.state(now), BreakerState::HalfOpen);
            fail(&breaker, now);
            pauses.push(pause * 1000 / longest);
        }
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
        now += pause(&breaker, now);
        breaker.enter(now).ok().unwrap().end(None, now);
        assert_eq!(breaker.state(now), BreakerState::Closed);
        // The next time begins with the shortest one again.
        fail(&breaker, now);
        fail(&breaker, now);
        assert!(pause(&breaker, now) <= SECOND);
    }

    #[test]
    fn one_probe_is_made_at_a_time_and_one_that_is_lost_gives_way() {
        let breaker = open(START);
        let now = START + SECOND;
        let probe = breaker.enter(now).ok().unwrap();
        assert!(probe.is_probe());
        assert_eq!(breaker.enter(now).err(), Some(SOON));
        drop(probe);
        assert!(breaker.enter(now).is_ok());
    }

    #[test]
    fn what_set_out_before_an_outage_ended_says_nothing_after_it() {
        let breaker = breaker();
        let late = [breaker.pass(), breaker.pass()];
        fail(&breaker, START);
        fail(&breaker, START);
        let now = START + SECOND;
        breaker.enter(now).ok().unwrap().end(None, now);
        late.into_iter().for_each(|late| late.end(Some(&failure()), now));
        assert_eq!(breaker.state(now), BreakerState::Closed);
        assert!(!breaker.is_down(now));
    }

    #[test]
    fn what_fails_while_it_is_open_makes_no_pause_longer() {
        let breaker = breaker();
        let late: Vec<_> = (0..100).map(|_| breaker.pass()).collect();
        late.into_iter().for_each(|late| late.end(Some(&failure()), START));
        assert!(pause(&breaker, START) <= SECOND);
    }

    #[test]
    fn any_answer_ends_it_even_a_late_one() {
        let breaker = breaker();
        let late = breaker.pass();
        fail(&breaker, START);
        fail(&breaker, START);
        late.end(None, START);
        assert_eq!(breaker.state(START), BreakerState::Closed);
    }

    #[test]
    fn a_clock_that_is_moved_ends_it() {
        let hour = 3600 * SECOND;
        for now in [START - hour, START + hour] {
            let breaker = open(START);
            assert_eq!(breaker.state(now), BreakerState::Closed);
            assert!(!breaker.is_down(now) && !breaker.enter(now).ok().unwrap().is_probe());
        }
    }

    #[test]
    fn an_outage_that_is_over_does_not_come_back_with_a_clock_that_is_set_back() {
        let breaker = open(START);
        breaker.pass().end(None, START + 60 * SECOND);
        assert_eq!(breaker.state(START), BreakerState::Closed);
        assert!(!breaker.is_down(START));
    }

    #[test]
    fn without_a_limit_calls_are_always_made() {
        let breaker = CircuitBreaker::new(Breaker::disabled(), "Authlete");
        (0..100).for_each(|_| fail(&breaker, START));
        assert_eq!(breaker.state(START), BreakerState::Closed);
        assert!(breaker.is_down(START) && !breaker.is_down(START + SECOND));
    }
}
