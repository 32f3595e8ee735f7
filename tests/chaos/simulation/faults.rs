//! Outages of Authlete.

use std::time::{Duration, SystemTime};

use rand::{RngExt, rngs::StdRng};
use tower_authlete::emulator::{Api, Fault};

use super::model::Order;

/// How long after a failure a layer serves stale facts without waiting for Authlete.
const MOMENT: Duration = Duration::from_secs(1);

/// For so long after it a layer with a breaker may call nobody, unless a call was answered since: the
/// longest pause, and the time after which it does not count any more.
const OPEN: Duration = Duration::from_secs(60);

/// The same, if the layer's clock is set back meanwhile.
const OPEN_BY_SLOW_CLOCKS: Duration = Duration::from_secs(600);

/// The breaker of a layer.
#[derive(Clone, Copy)]
pub(crate) struct Reluctant {
    /// The last time at which a call of it was certainly answered.
    pub(crate) answered: Order,
    /// Whether its clock was set since.
    pub(crate) stepped: bool,
}

#[derive(Default)]
pub(crate) struct Failures(Vec<Failing>);

struct Failing {
    from: Order,
    end: Option<(Order, SystemTime)>,
}

impl Failures {
    pub(crate) fn begin(&mut self, from: Order) {
        self.0.push(Failing { from, end: None });
    }

    pub(crate) fn end(&mut self, order: Order, now: SystemTime) {
        if let Some(failing) = self.0.last_mut() {
            failing.end = Some((order, now));
        }
    }

    pub(crate) fn now(&self) -> bool {
        self.0.last().is_some_and(|failing| failing.end.is_none())
    }

    /// Whether an outage overlaps with the period.
    pub(crate) fn during(&self, began: Order, ended: Order) -> bool {
        let ends_after = |failing: &Failing| failing.end.is_none_or(|(end, _)| began < end);
        self.0.iter().any(|failing| failing.from <= ended && ends_after(failing))
    }

    /// Whether there was one a moment before, or longer ago if the layer breaks off and no call of it
    /// was answered since.
    pub(crate) fn just_before(
        &self,
        (began, at): (Order, SystemTime),
        layer: Option<Reluctant>,
    ) -> bool {
        let mut ends = self.0.iter().filter_map(|failing| failing.end);
        ends.any(|(end, then)| {
            let open = |it: &Reluctant| it.answered < end || began <= it.answered;
            let moment = match layer.filter(open) {
                Some(Reluctant { stepped: true, .. }) => OPEN_BY_SLOW_CLOCKS,
                Some(_) => OPEN,
                None => MOMENT,
            };
            end <= began && at < then + moment
        })
    }

    /// Only the last outage is needed.
    pub(crate) fn forget_old(&mut self) {
        self.0.drain(..self.0.len().saturating_sub(1));
    }
}

/// A fault, and whether it delays responses.
pub(crate) fn choose(rng: &mut StdRng, deadline: Duration) -> (Fault, bool) {
    let (fault, slow) = match rng.random_range(0..8) {
        0 => (Fault::status(503), false),
        1 => (Fault::status(429), false),
        2 => (Fault::body("rubbish"), false),
        3 => (Fault::reset(), false),
        4 => (Fault::truncated(), false),
        5 => (Fault::hang(), true),
        6 => (Fault::delay(deadline / 4), true),
        _ => (Fault::delay(deadline * 2), true),
    };
    let times = rng.random_range(1..8);
    let fault = if rng.random_bool(0.5) { fault.times(times) } else { fault };
    let fault = if rng.random_bool(0.5) { fault.on(Api::Introspection) } else { fault };
    (fault, slow)
}
