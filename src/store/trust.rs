//! For how long a process uses what it knows while it may not have heard of an invalidation.

/// Moments by the monotonic clock (ms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Trust {
    /// Until when this process hears of what others invalidate.
    pub(super) until: u64,
    /// What was known before this moment may have been invalidated unheard.
    pub(super) doubt: u64,
    /// Since when it may have been. Not later than `until`.
    pub(super) lost: u64,
    /// What was known before this moment is not used any more.
    pub(super) over: u64,
}

impl Trust {
    /// Without word yet.
    pub(super) const NONE: Self = Self { until: 0, doubt: 0, lost: 0, over: 0 };

    /// Records of invalidations may be missing: all that was known up to now is in doubt, from when this
    /// process was last sure of it. `grace` is for how long it is used nevertheless.
    pub(super) fn lose(self, now: u64, grace: u64) -> Self {
        // What was in doubt before does not come back by another doubt.
        let is_over = self.doubt.saturating_add(grace) <= now;
        let (over, lost) =
            if is_over { (self.doubt, self.until.min(now)) } else { (self.over, self.lost) };
        // What was known in the same ms may have been known before.
        Self { doubt: now + 1, lost, over, ..self }
    }

    /// The end of the use of what is known since then, if it is in doubt.
    pub(super) fn end(self, known_since: u64, now: u64, grace: u64) -> Option<u64> {
        if known_since < self.over {
            return Some(0);
        }
        let since = if known_since < self.doubt {
            self.lost
        } else if now < self.until {
            return None;
        } else {
            self.until
        };
        Some(since.max(known_since).saturating_add(grace))
    }
}
