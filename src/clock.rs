//! The time of day, which tests can move.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// The longest age, and the longest wait, that can be set.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// No cache or store is told to keep anything for longer: what ends far away overflows there.
pub(crate) const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The time of day by which expiry is judged.
///
/// Clones share one clock, so that a test can hand the same one to the layer and to the emulator
/// and move both.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_authlete::Clock;
///
/// let clock = Clock::frozen(SystemTime::UNIX_EPOCH);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(60));
/// ```
#[derive(Clone, Default)]
pub struct Clock {
    frozen: Option<SystemTime>,
    shift_millis: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still unless it is moved.
    #[must_use]
    pub fn frozen(at: SystemTime) -> Self {
        Self { frozen: Some(at), ..Self::default() }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        let now = self.frozen.unwrap_or_else(SystemTime::now);
        let shift = self.shift_millis.load(Ordering::Relaxed);
        if shift == 0 {
            return now;
        }
        let distance = Duration::from_millis(shift.unsigned_abs());
        let shifted =
            if shift >= 0 { now.checked_add(distance) } else { now.checked_sub(distance) };
        shifted.unwrap_or(now)
    }

    /// The time of day in ms since the epoch as of the system's last tick, some ms ago at most: it costs
    /// less.
    #[inline]
    pub(crate) fn recently(&self) -> u64 {
        let shift = self.shift_millis.load(Ordering::Relaxed);
        self.frozen.map_or_else(last_tick, millis).saturating_add_signed(shift)
    }

    /// The time of day in ms since the epoch.
    pub(crate) fn now_millis(&self) -> u64 {
        millis(self.now())
    }

    /// Moves the clock and all its clones on, by whole milliseconds.
    pub fn advance(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Moves the clock and all its clones back, by whole milliseconds.
    pub fn rewind(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).map_or(i64::MIN, |millis| -millis));
    }

    fn shift(&self, millis: i64) {
        let add = |shift: i64| Some(shift.saturating_add(millis));
        // `fetch_update` fails only if the closure answers `None`.
        let _ = self.shift_millis.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(target_os = "linux")]
#[inline]
fn last_tick() -> u64 {
    let tick = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME_COARSE);
    let Ok(tick) = tick else { return millis(SystemTime::now()) };
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    part(tick.tv_sec()).saturating_mul(1000).saturating_add(part(tick.tv_nsec()) / 1_000_000)
}

#[cfg(not(target_os = "linux"))]
#[inline]
fn last_tick() -> u64 {
    millis(SystemTime::now())
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
mod tests {
    use super::*;

    #[test]
    fn the_last_tick_is_not_ahead_of_the_time_of_day() {
        let clock = Clock::system();
        let (tick, now) = (clock.recently(), clock.now_millis());
        let hour = 60 * 60 * 1000;
        assert!(tick <= now && now < tick + hour, "{tick} {now}");
    }

    #[test]
    fn a_clock_that_is_moved_moves_its_ticks() {
        let clock = Clock::frozen(SystemTime::UNIX_EPOCH);
        clock.advance(Duration::from_secs(2));
        clock.rewind(Duration::from_secs(1));
        assert_eq!((clock.recently(), clock.now_millis()), (1000, 1000));
    }
}
