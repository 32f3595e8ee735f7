//! The time of day and the monotonic time, which tests can move.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//! use tower_authlete::{AuthLayer, Authlete, clock::Clock};
//!
//! # fn example(authlete: Authlete) -> Result<(), tower_authlete::ConfigError> {
//! let clock = Clock::frozen(SystemTime::now());
//! let auth = AuthLayer::builder(authlete).clock(clock.clone()).build()?;
//! clock.advance(Duration::from_secs(60));
//! # let _ = auth;
//! # Ok(())
//! # }
//! ```

#[cfg(target_os = "linux")]
use std::cell::Cell;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// The upper bound of ages and waits that can be set.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The upper bound of lifetimes in caches and stores, whose times overflow beyond.
pub(crate) const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The clock that tells whether tokens have expired.
///
/// Clones share one clock, so that a test can give the same one to the layer and to the emulator
/// and move both.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_authlete::clock::Clock;
///
/// let clock = Clock::frozen(SystemTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(60));
/// ```
#[derive(Clone, Default)]
pub struct Clock {
    frozen: Option<SystemTime>,
    moved: Arc<Moved>,
}

/// How far a clock was moved.
#[derive(Default)]
struct Moved {
    /// The sum of all moves (ms).
    shift: AtomicI64,
    /// The sum of all moves forward (ms).
    advanced: AtomicU64,
}

/// A moment by two clocks (ms). An age is over if it is over by either, since the time of day can be set back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The time of day, since the epoch.
    pub(crate) wall: u64,
    /// The monotonic time, since an arbitrary start.
    pub(crate) monotonic: u64,
}

impl Moment {
    /// The moment that is later by this age.
    pub(crate) fn after(self, age: Duration) -> Self {
        self.after_millis(span(age))
    }

    #[inline]
    pub(crate) fn after_millis(self, age: u64) -> Self {
        Self { wall: self.wall.saturating_add(age), monotonic: self.monotonic.saturating_add(age) }
    }

    /// The moment that is earlier by this age.
    pub(crate) fn before(self, age: Duration) -> Self {
        let age = span(age);
        Self { wall: self.wall.saturating_sub(age), monotonic: self.monotonic.saturating_sub(age) }
    }

    /// Whether it is past by either clock.
    #[inline]
    pub(crate) fn is_past(self, now: Self) -> bool {
        self.wall <= now.wall || self.monotonic <= now.monotonic
    }

    /// How long ago it was: the longer time of both clocks.
    pub(crate) fn elapsed(self, now: Self) -> Duration {
        let wall = now.wall.saturating_sub(self.wall);
        Duration::from_millis(wall.max(now.monotonic.saturating_sub(self.monotonic)))
    }

    /// The earlier time by each clock.
    pub(crate) fn min(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), monotonic: self.monotonic.min(other.monotonic) }
    }
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that changes only by [`advance`](Self::advance) and [`rewind`](Self::rewind).
    #[must_use]
    pub fn frozen(at: SystemTime) -> Self {
        Self { frozen: Some(at), ..Self::default() }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let now = self.frozen.unwrap_or_else(SystemTime::now);
        let shift = self.moved.shift.load(Ordering::Relaxed);
        if shift == 0 {
            return now;
        }
        let distance = Duration::from_millis(shift.unsigned_abs());
        let shifted =
            if shift >= 0 { now.checked_add(distance) } else { now.checked_sub(distance) };
        shifted.unwrap_or(now)
    }

    /// The moment of the system's last tick, which is some ms ago at most. It costs less than
    /// [`moment`](Self::moment).
    #[inline]
    pub(crate) fn recently(&self) -> Moment {
        let frozen = |at| Moment { wall: millis(at), monotonic: 0 };
        let Moment { wall, monotonic } = self.frozen.map_or_else(last_tick, frozen);
        let shift = self.moved.shift.load(Ordering::Relaxed);
        let advanced = self.moved.advanced.load(Ordering::Relaxed);
        Moment {
            wall: wall.saturating_add_signed(shift),
            monotonic: monotonic.saturating_add(advanced),
        }
    }

    /// This moment. Its monotonic time is that of the last tick.
    pub(crate) fn moment(&self) -> Moment {
        Moment { wall: self.now_millis(), ..self.recently() }
    }

    /// The time of day in ms since the epoch.
    pub(crate) fn now_millis(&self) -> u64 {
        millis(self.now())
    }

    /// Moves the clock and all its clones forward, by whole milliseconds.
    pub fn advance(&self, by: Duration) {
        let add = |advanced: u64| Some(advanced.saturating_add(span(by)));
        // `fetch_update` fails only if the closure returns `None`.
        let _ = self.moved.advanced.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.shift(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Moves the clock and all its clones back, by whole milliseconds, like a correction of the time of day.
    /// It does not lengthen the life of cached entries.
    pub fn rewind(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).map_or(i64::MIN, |millis| -millis));
    }

    fn shift(&self, millis: i64) {
        let add = |shift: i64| Some(shift.saturating_add(millis));
        // `fetch_update` fails only if the closure returns `None`.
        let _ = self.moved.shift.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// The moment of the last tick. Each thread reads the time of day once a tick, so that a change of that takes
/// effect with the next one.
#[inline]
fn last_tick() -> Moment {
    #[cfg(target_os = "linux")]
    if let Some(monotonic) = tick(nix::time::ClockId::CLOCK_MONOTONIC_COARSE) {
        thread_local! {
            static LAST: Cell<Moment> = const { Cell::new(Moment { wall: 0, monotonic: 0 }) };
        }
        let last = LAST.get();
        if last.monotonic == monotonic {
            return last;
        }
        if let Some(wall) = tick(nix::time::ClockId::CLOCK_REALTIME_COARSE) {
            LAST.set(Moment { wall, monotonic });
            return LAST.get();
        }
    }
    Moment { wall: millis(SystemTime::now()), monotonic: since_start() }
}

#[cfg(target_os = "linux")]
#[inline]
fn tick(clock: nix::time::ClockId) -> Option<u64> {
    let tick = nix::time::clock_gettime(clock).ok()?;
    // Neither is negative.
    let (seconds, nanos) = (tick.tv_sec().unsigned_abs(), tick.tv_nsec().unsigned_abs());
    Some(seconds.wrapping_mul(1000).wrapping_add(nanos / 1_000_000))
}

/// ms since the first call.
fn since_start() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    span(START.get_or_init(std::time::Instant::now).elapsed())
}

/// A duration in ms.
pub(crate) fn span(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// ms since the epoch.
#[inline]
pub(crate) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().saturating_mul(1000).saturating_add(since.subsec_millis().into())
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).finish()
    }
}

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use super::*;

    #[test]
    fn the_last_tick_is_not_ahead_of_the_time_of_day() {
        let clock = Clock::system();
        let (tick, now) = (clock.recently().wall, clock.now_millis());
        let hour = 60 * 60 * 1000;
        assert!(tick <= now && now < tick + hour, "{tick} {now}");
    }

    #[test]
    fn a_clock_that_is_moved_moves_its_ticks() {
        let clock = Clock::frozen(SystemTime::UNIX_EPOCH);
        clock.advance(Duration::from_secs(2));
        clock.rewind(Duration::from_secs(1));
        assert_eq!((clock.recently().wall, clock.now_millis()), (1000, 1000));
    }

    #[test]
    fn what_is_set_back_gets_no_younger() {
        for clock in [Clock::frozen(SystemTime::UNIX_EPOCH), Clock::system()] {
            let end = clock.moment().after(Duration::from_secs(60));
            clock.rewind(Duration::from_secs(3600));
            clock.advance(Duration::from_secs(30));
            assert!(!end.is_past(clock.moment()));
            clock.advance(Duration::from_secs(30));
            assert!(end.is_past(clock.moment()) && end.is_past(clock.recently()));
        }
    }
}
