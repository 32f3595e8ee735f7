//! Rate limit of log lines that requests can trigger: each line is written at most once in ten seconds,
//! with the number of times it was left out since.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::clock::Clock;

/// How long (ms) after it was written a line is left out.
const INTERVAL: u64 = 10_000;

/// The place of a line in the source: file and line number.
type Place = (&'static str, u32);

/// Limits how often each line is written to the log, by the layer's clock. Clones share the limit; each
/// layer has its own, so that a line of one does not suppress that of another.
#[derive(Clone, Default)]
pub(crate) struct LogLimit(Arc<Inner>);

#[derive(Default)]
struct Inner {
    clock: Clock,
    lines: Mutex<HashMap<Place, Written>>,
}

/// When a line was last written, and how often it was left out since.
struct Written {
    /// ms by the monotonic clock, so that a time of day that is set back does not silence the line.
    at: u64,
    left_out: u64,
}

impl LogLimit {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self(Arc::new(Inner { clock: clock.clone(), ..Inner::default() }))
    }

    /// Returns how often the line was left out, if it is to be written now.
    pub(crate) fn admit(&self, place: Place) -> Option<u64> {
        let now = self.0.clock.recently().monotonic;
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = lines.get_mut(&place) else {
            lines.insert(place, Written { at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_sub(last.at) < INTERVAL {
            last.left_out += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.left_out))
    }
}

/// Writes a line to the log like `tracing`'s macro of that level, unless the [`LogLimit`] leaves it out.
/// The field `left_out` is how often it was left out since it was last written.
macro_rules! limited {
    ($level:ident, $limit:expr, $($line:tt)+) => {
        if let Some(left_out) = $limit.admit((file!(), line!())) {
            tracing::$level!(left_out = (left_out > 0).then_some(left_out), $($line)+);
        }
    };
}
pub(crate) use limited;

#[cfg(test)]
#[cfg(not(model))]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    const LINE: Place = ("a.rs", 1);

    #[test]
    fn a_line_is_written_once_and_then_once_in_a_while_with_a_count() {
        let clock = Clock::frozen(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000));
        let limit = LogLimit::new(&clock);
        assert_eq!(limit.admit(LINE), Some(0));
        for _ in 0..59 {
            assert_eq!(limit.admit(LINE), None);
        }
        clock.advance(Duration::from_millis(INTERVAL - 1));
        assert_eq!(limit.clone().admit(LINE), None);
        clock.advance(Duration::from_millis(1));
        assert_eq!([limit.admit(LINE), limit.admit(LINE)], [Some(60), None]);
        clock.advance(Duration::from_millis(INTERVAL));
        assert_eq!(limit.admit(LINE), Some(1));
    }

    #[test]
    fn other_lines_and_other_layers_are_written_all_the_same() {
        let limit = LogLimit::default();
        assert_eq!(limit.admit(LINE), Some(0));
        assert_eq!(limit.admit(("a.rs", 2)), Some(0));
        assert_eq!(LogLimit::default().admit(LINE), Some(0));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_silence_a_line() {
        let clock = Clock::frozen(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000));
        let limit = LogLimit::new(&clock);
        limit.admit(LINE);
        clock.rewind(Duration::from_secs(3600));
        assert_eq!(limit.admit(LINE), None);
        clock.advance(Duration::from_millis(INTERVAL));
        assert_eq!(limit.admit(LINE), Some(1));
    }
}
