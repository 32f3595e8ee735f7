//! Log lines that requests can repeat: each is written once, then at most once in ten seconds, with
//! the number of those that were left out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::clock::Clock;

/// For how long (ms) a line that was written is not written again.
const SPAN: u64 = 10_000;

/// Where a line stands in the source: the file, and the number in it.
type Place = (&'static str, u32);

/// Limits how often each line is written to the log, by the layer's clock. Clones share it; each layer
/// has one of its own, so that none leaves out what another one has to say.
#[derive(Clone, Default)]
pub(crate) struct LogLimit(Arc<Inner>);

#[derive(Default)]
struct Inner {
    clock: Clock,
    lines: Mutex<HashMap<Place, Written>>,
}

/// When a line was written last (ms, by the clock that is never set back), and how often it was left out since.
struct Written {
    at: u64,
    left_out: u64,
}

impl LogLimit {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self(Arc::new(Inner { clock: clock.clone(), ..Inner::default() }))
    }

    /// How often the line was left out, if it is to be written now.
    pub(crate) fn admit(&self, place: Place) -> Option<u64> {
        let now = self.0.clock.recently().monotonic;
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = lines.get_mut(&place) else {
            lines.insert(place, Written { at: now, left_out: 0 });
            return Some(0);
        };
        if now.saturating_sub(last.at) < SPAN {
            last.left_out += 1;
            return None;
        }
        last.at = now;
        Some(std::mem::take(&mut last.left_out))
    }
}

/// Writes a line to the log as `tracing`'s macro of that level does, unless the [`LogLimit`] leaves it
/// out. The field `left_out` tells how many it has left out since the last one.
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
        clock.advance(Duration::from_millis(SPAN - 1));
        assert_eq!(limit.clone().admit(LINE), None);
        clock.advance(Duration::from_millis(1));
        assert_eq!([limit.admit(LINE), limit.admit(LINE)], [Some(60), None]);
        clock.advance(Duration::from_millis(SPAN));
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
        clock.advance(Duration::from_millis(SPAN));
        assert_eq!(limit.admit(LINE), Some(1));
    }
}
