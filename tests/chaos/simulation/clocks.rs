//! Clocks of layers, which are set forth and back relative to the true time.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use rand::RngExt;
use tower_authlete::clock::Clock;

use super::{driver::Driver, holders::Bound, model::Order};

/// How many steps are remembered. No work in flight is older than all of them.
const REMEMBERED: usize = 32;

/// By how much a clock is set (s).
const STEPS: [u32; 6] = [3, 20, 70, 70, 400, 3600];

/// Of so many proofs, one of each part of a store of proofs is likely to be there.
const PROOFS: usize = 48;

/// The clock of a layer's machine.
pub(crate) struct SiteClock {
    pub(crate) clock: Clock,
    /// When it was set, and how far ahead of the true time it is since (ms).
    steps: VecDeque<(Order, i64)>,
    /// The latest time that it has shown before it was set back.
    latest: SystemTime,
}

/// The deviation of a clock during a period.
#[derive(Clone, Copy, Default)]
pub(crate) struct Going {
    /// How far ahead of the true time it was, at most.
    pub(crate) ahead: Duration,
    /// How far behind, at most.
    pub(crate) behind: Duration,
    pub(crate) stepped: bool,
}

impl SiteClock {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, steps: [(0, 0)].into(), latest: SystemTime::UNIX_EPOCH }
    }

    fn offset(&self) -> i64 {
        self.steps.back().map_or(0, |(_, offset)| *offset)
    }

    pub(super) fn is_right(&self) -> bool {
        self.offset() == 0
    }

    fn step(&mut self, order: Order, millis: i64) {
        self.latest = self.latest.max(self.clock.now());
        let by = Duration::from_millis(millis.unsigned_abs());
        if millis < 0 {
            self.clock.rewind(by)
        } else {
            self.clock.advance(by)
        }
        let offset = self.offset() + millis;
        if self.steps.len() == REMEMBERED {
            self.steps.pop_front();
        }
        self.steps.push_back((order, offset));
    }

    pub(super) fn going(&self, from: Order, to: Order) -> Going {
        let first = self.steps.iter().rposition(|(order, _)| *order <= from).unwrap_or_default();
        let during = || self.steps.range(first..).take_while(|(order, _)| *order <= to);
        let most = during().map(|(_, offset)| *offset).max().unwrap_or_default();
        let least = during().map(|(_, offset)| *offset).min().unwrap_or_default();
        let span = |millis: i64| Duration::from_millis(millis.max(0).unsigned_abs());
        Going { ahead: span(most), behind: span(-least), stepped: during().nth(1).is_some() }
    }

    pub(super) fn stepped_since(&self, order: Order) -> bool {
        self.steps.back().is_some_and(|(last, _)| *last > order)
    }

    /// How far it is behind the latest time that it has shown.
    pub(super) fn set_back(&self) -> Duration {
        self.latest.duration_since(self.clock.now()).unwrap_or_default()
    }
}

impl Driver {
    /// Sets a machine's clock, or corrects it.
    pub(crate) fn step_clock(&mut self) {
        let layer = self.any_layer();
        if !self.environment.sites[layer].settings.steps {
            return;
        }
        let offset = self.environment.sites[layer].clock.offset();
        let correct = offset != 0 && self.rng.random_bool(0.6);
        let step = self.time_scale().seconds(STEPS[self.rng.random_range(0..STEPS.len())]);
        let step = i64::try_from(step.as_millis()).unwrap_or_default();
        let step = if self.rng.random_bool(0.5) { step } else { -step };
        self.step(layer, if correct { -offset } else { step });
    }

    pub(super) fn step(&mut self, layer: usize, millis: i64) {
        // Work in flight may use either time.
        self.may_be_extended();
        let order = self.next();
        self.environment.sites[layer].clock.step(order, millis);
        self.may_be_extended();
        self.tally.steps += 1;
        self.doubt_sessions_at(layer);
        self.note(format!("the clock of {layer} is set by {millis} ms"));
    }

    /// A proof is used before a clock is set forth, others while it is, and the first again when it is set
    /// back.
    pub(crate) async fn step_forth_and_back(&mut self) {
        self.settle().await;
        let token = self.any_token();
        let Bound::Key(_) = self.tokens[token].bound else { return };
        let fits = |layer: &usize| {
            let settings = &self.environment.sites[*layer].settings;
            settings.dpop && settings.steps
        };
        let layers: Vec<_> = (0..self.environment.sites.len()).filter(fits).collect();
        if layers.is_empty() {
            return;
        }
        let layer = layers[self.rng.random_range(0..layers.len())];
        let step = i64::from(self.environment.sites[layer].settings.window) * 1000 + 5000;
        let first = self.holders_request(token, layer, None);
        self.settle().await;
        self.step(layer, step);
        for _ in 0..PROOFS {
            self.holders_request(token, layer, None);
        }
        self.settle().await;
        self.step(layer, -step);
        self.holders_request(token, layer, first);
        self.settle().await;
    }
}
