//! What was done.

/// How often which rule was looked at.
#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) ended: u64,
    pub(crate) expired: u64,
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
        self.rules.ended += other.rules.ended;
        self.rules.expired += other.rules.expired;
        self.rules.narrowed += other.rules.narrowed;
        self.rules.not_the_holder += other.rules.not_the_holder;
        self.rules.replayed += other.rules.replayed;
        self.rules.anonymous += other.rules.anonymous;
        self.rules.good += other.rules.good;
        self.rules.good_bound += other.rules.good_bound;
        self.rules.unknown += other.rules.unknown;
        self.rules.broken += other.rules.broken;
    }

    /// What has to have happened for a run to mean anything, and how often it did.
    pub(crate) fn occasions(&self) -> [(&'static str, u64); 14] {
        let rules = &self.rules;
        [
            ("ended", rules.ended),
            ("expired", rules.expired),
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
        ]
    }
}
