//! Counts of what a run covered.

/// Outcomes of sessions.
#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Visits {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    /// Requests that must be admitted.
    pub(crate) good: u64,
    /// Requests that must be refused.
    pub(crate) after_end: u64,
    pub(crate) at_once: u64,
    /// As the store has seen it.
    pub(crate) renewed: u64,
    pub(crate) rotated: u64,
    pub(crate) conflicts: u64,
}

impl Visits {
    fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.ended += other.ended;
        self.good += other.good;
        self.after_end += other.after_end;
        self.at_once += other.at_once;
        self.renewed += other.renewed;
        self.rotated += other.rotated;
        self.conflicts += other.conflicts;
    }
}

/// How often each rule was checked.
#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) ended: u64,
    pub(crate) expired: u64,
    /// The same, where the layer's clock is behind.
    pub(crate) expired_by_slow_clocks: u64,
    /// Refused, so that no extension follows.
    pub(crate) not_extended: u64,
    pub(crate) narrowed: u64,
    pub(crate) not_the_holder: u64,
    pub(crate) replayed: u64,
    pub(crate) anonymous: u64,
    pub(crate) good: u64,
    pub(crate) good_bound: u64,
    pub(crate) unknown: u64,
    /// Refused after an outage, which is over.
    pub(crate) broken: u64,
}

#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    pub(crate) requests: u64,
    pub(crate) accepted: u64,
    pub(crate) unavailable: u64,
    pub(crate) calls: u64,
    pub(crate) wrong: u64,
    /// How often a layer made as many calls at a time as it may.
    pub(crate) limit_reached: u64,
    pub(crate) rotated: u64,
    pub(crate) slow: u64,
    pub(crate) steps: u64,
    pub(crate) audits: u64,
    pub(crate) strangers: u64,
    pub(crate) strangers_turned_away: u64,
    /// Cached tokens that unauthenticated clients named in requests to endpoints.
    pub(crate) known_in_floods: u64,
    pub(crate) sessions: Visits,
    pub(crate) rules: Rules,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.requests += other.requests;
        self.accepted += other.accepted;
        self.unavailable += other.unavailable;
        self.calls += other.calls;
        self.wrong += other.wrong;
        self.limit_reached += other.limit_reached;
        self.rotated += other.rotated;
        self.slow += other.slow;
        self.steps += other.steps;
        self.audits += other.audits;
        self.strangers += other.strangers;
        self.strangers_turned_away += other.strangers_turned_away;
        self.known_in_floods += other.known_in_floods;
        self.sessions.add(&other.sessions);
        self.rules.ended += other.rules.ended;
        self.rules.expired += other.rules.expired;
        self.rules.expired_by_slow_clocks += other.rules.expired_by_slow_clocks;
        self.rules.not_extended += other.rules.not_extended;
        self.rules.narrowed += other.rules.narrowed;
        self.rules.not_the_holder += other.rules.not_the_holder;
        self.rules.replayed += other.rules.replayed;
        self.rules.anonymous += other.rules.anonymous;
        self.rules.good += other.rules.good;
        self.rules.good_bound += other.rules.good_bound;
        self.rules.unknown += other.rules.unknown;
        self.rules.broken += other.rules.broken;
    }

    /// The situations that a run must cover, and how often it did.
    pub(crate) fn occasions(&self) -> [(&'static str, u64); 29] {
        let (rules, sessions) = (&self.rules, &self.sessions);
        [
            ("ended", rules.ended),
            ("expired", rules.expired),
            ("expired, by a clock that is behind", rules.expired_by_slow_clocks),
            ("refused and not extended", rules.not_extended),
            ("narrowed", rules.narrowed),
            ("not the holder", rules.not_the_holder),
            ("replayed", rules.replayed),
            ("anonymous", rules.anonymous),
            ("good", rules.good),
            ("good and bound", rules.good_bound),
            ("unknown", rules.unknown),
            ("503", self.unavailable),
            ("503 after an outage", rules.broken),
            ("the limit is reached", self.limit_reached),
            ("rotated", self.rotated),
            ("slow answers", self.slow),
            ("clocks are set", self.steps),
            ("audits", self.audits),
            ("strangers", self.strangers),
            ("strangers turned away", self.strangers_turned_away),
            ("known in floods", self.known_in_floods),
            ("sessions", sessions.begun),
            ("sessions ended", sessions.ended),
            ("good sessions", sessions.good),
            ("after a session's end", sessions.after_end),
            ("session requests at once", sessions.at_once),
            ("sessions renewed", sessions.renewed),
            ("sessions rotated", sessions.rotated),
            ("conflicts in the store", sessions.conflicts),
        ]
    }
}
