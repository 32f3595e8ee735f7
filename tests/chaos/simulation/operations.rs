//! Random operations.

use rand::RngExt;
use tower_authlete::emulator::Api;

use super::{
    driver::{Driver, STEP},
    faults,
    log::Log,
    time_scale::TimeScale,
};

impl Driver {
    pub(crate) async fn new(seed: u64, time_scale: TimeScale, log: Log) -> Self {
        let mut driver = Self::idle(seed, time_scale, log).await;
        for _ in 0..8 {
            driver.issue().await;
        }
        driver
    }

    /// Performs an operation.
    pub(crate) async fn operate(&mut self) {
        self.tally.operations += 1;
        if self.failures.now() && self.rng.random_bool(0.1) {
            self.recover().await;
        }
        if self.hold.as_ref().is_some_and(|(_, until)| *until <= self.now()) {
            self.settle().await;
        }
        match self.rng.random_range(0..121) {
            0..44 => self.burst().await,
            44..55 => self.issue().await,
            55..57 => self.issue_here().await,
            57..60 => self.revoke_here().await,
            60..62 => self.revoke_elsewhere(),
            62 => self.revoke_by_endpoint().await,
            63 => self.refresh_here().await,
            64..68 => self.forget(),
            68..72 => self.update_here().await,
            72..76 => self.update_elsewhere().await,
            76..85 => self.let_time_pass().await,
            85 => self.grow_old().await,
            86..88 => self.fail(),
            88..94 => self.hold_or_release().await,
            94..96 => self.revoke_slowly().await,
            96..99 => self.flood().await,
            99..103 => self.step_clock(),
            103 => self.step_forth_and_back().await,
            104..106 => self.begin_session().await,
            106..118 => self.visit().await,
            _ => self.audit().await,
        }
    }

    /// Concurrent requests, at times many. Some stay pending until responses are released, and some coincide
    /// with a change.
    pub(crate) async fn burst(&mut self) {
        let burst = self.rng.random_bool(0.02);
        let requests =
            if burst { self.rng.random_range(50..250) } else { self.rng.random_range(1..=5) };
        let (one, same) = (self.any_token(), self.rng.random_bool(0.3));
        let layer = self.any_layer();
        for _ in 0..requests {
            let token = if same { one } else { self.any_token() };
            let layer = if self.rng.random_bool(0.5) { layer } else { self.any_layer() };
            let known = !self.rng.random_bool(0.05);
            self.request(Some(token).filter(|_| known), layer);
        }
        if self.rng.random_bool(0.3) {
            let turns = self.rng.random_range(0..6);
            self.give_way(turns).await;
            match self.rng.random_range(0..4) {
                0 => self.forget(),
                1 => self.revoke_elsewhere(),
                2 => self.revoke_here().await,
                _ => self.update_here().await,
            }
        }
        self.join_unless_held().await;
    }

    async fn let_time_pass(&mut self) {
        let by = if let Some((_, until)) = &self.hold {
            until.duration_since(self.now()).unwrap_or_default() / 2
        } else {
            self.settle().await;
            let most = [2_000, 12_000, 12_000, 30_000, 90_000][self.rng.random_range(0..5)];
            self.time_scale().second * self.rng.random_range(1..most) / 1000
        };
        let mut left = by;
        while !self.waiting.is_empty() && left > STEP {
            self.pass(STEP).await;
            self.give_way(32).await;
            left -= STEP;
        }
        self.pass(left).await;
        self.note(format!("{} ms pass", by.as_millis()));
    }

    fn fail(&mut self) {
        if self.failures.now() {
            return;
        }
        let (fault, slow) = faults::choose(&mut self.rng, self.environment.time_scale.deadline);
        self.note(format!("{fault:?}"));
        self.failures.begin(self.next());
        self.tally.slow += u64::from(slow);
        self.environment.authlete.fault(fault);
    }

    async fn recover(&mut self) {
        self.settle().await;
        self.environment.authlete.clear_faults();
        // Background work may still wait for a permit or a retry.
        self.pass(self.time_scale().deadline + STEP).await;
        self.quiet().await;
        self.failures.end(self.next(), self.now());
        self.note("all is well".into());
    }

    async fn hold_or_release(&mut self) {
        let held = self.hold.is_some();
        self.settle().await;
        if !held {
            let until = self.now() + self.time_scale().deadline * 2 / 3;
            self.hold = Some((self.environment.authlete.hold(Api::Introspection), until));
            self.note("hold".into());
        }
    }
}
