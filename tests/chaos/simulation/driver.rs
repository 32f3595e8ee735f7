//! The state of a simulation, and waiting for work in flight.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;
use tower_authlete::emulator::Hold;

use super::{
    endpoints::Flood,
    environment::Environment,
    extending::Extensions,
    faults::Failures,
    log::Log,
    model::Order,
    sessions::Visitors,
    tally::Tally,
    time_scale::TimeScale,
    tokens::Tokens,
    waiting::{Spare, Waiting},
};

/// The bound of every wait. It is never reached.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many operations before a violation are reported.
const REMEMBERED: usize = 60;

/// The step by which time advances while Authlete is slow.
pub(super) const STEP: Duration = Duration::from_millis(100);

pub(crate) struct Driver {
    pub(super) seed: u64,
    pub(super) rng: StdRng,
    pub(super) environment: Environment,
    pub(super) log: Log,
    pub(super) order: Arc<AtomicU64>,
    pub(super) tokens: Tokens,
    pub(super) waiting: Vec<Waiting>,
    /// Until when responses are held back, so that every wait ends.
    pub(super) hold: Option<(Hold, SystemTime)>,
    pub(super) failures: Failures,
    pub(super) extensions: Extensions,
    pub(super) flood: Option<Flood>,
    pub(super) sessions: Visitors,
    /// Recent proofs.
    pub(super) spares: VecDeque<Spare>,
    pub(super) proofs: u64,
    /// Proofs by which a request was accepted.
    pub(super) used_up: BTreeSet<u64>,
    done: VecDeque<String>,
    pub(super) tally: Tally,
    problem: Option<String>,
    /// A response is missing, so that waiting is pointless.
    stuck: bool,
}

impl Driver {
    /// A driver before its first operation.
    pub(super) async fn idle(seed: u64, time_scale: TimeScale, log: Log) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            seed,
            environment: Environment::new(time_scale, &mut rng, &log).await,
            rng,
            log,
            order: Arc::default(),
            tokens: Tokens::default(),
            waiting: Vec::new(),
            hold: None,
            failures: Failures::default(),
            extensions: Extensions::new(),
            flood: None,
            sessions: Visitors::default(),
            spares: VecDeque::new(),
            proofs: 0,
            used_up: BTreeSet::new(),
            done: VecDeque::new(),
            tally: Tally::default(),
            problem: None,
            stuck: false,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        let sites = &self.environment.sites;
        let full = sites.iter().filter(|site| site.calls.most_checks() == site.limit()).count();
        let (calls, limit_reached) = (self.environment.authlete.total_calls(), full as u64);
        let mut tally = Tally { calls, limit_reached, ..self.tally };
        self.environment.store.count(&mut tally.sessions);
        tally
    }

    /// The first violation, if any.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        for (layer, site) in self.environment.sites.iter().enumerate() {
            let most = site.calls.most_checks();
            if most > site.limit() {
                self.problem = Some(format!("layer {layer}: {most} calls of {}", site.limit()));
            }
        }
        self.problem.take().map_or(Ok(()), |problem| Err(self.fails(&problem)))
    }

    /// Describes a violation with its environment and the operations before it.
    pub(crate) fn fails(&self, problem: &str) -> String {
        let done: Vec<_> = self.done.iter().map(String::as_str).collect();
        let sites = self.environment.sites.iter().enumerate();
        let sites: Vec<_> =
            sites.map(|(layer, site)| format!("layer {layer}: {:?}", site.settings)).collect();
        format!("{problem}\n  {}\n  {}", done.join("\n  "), sites.join("\n  "))
    }

    pub(super) fn note(&mut self, what: String) {
        if self.done.len() == REMEMBERED {
            self.done.pop_front();
        }
        self.done.push_back(what);
    }

    pub(super) fn wrong(&mut self, what: &str, problem: &str) {
        self.tally.wrong += 1;
        self.problem.get_or_insert_with(|| format!("{what}: {problem}"));
    }

    /// The next position in the order of events.
    pub(super) fn next(&self) -> Order {
        self.order.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn now(&self) -> SystemTime {
        self.environment.clock.now()
    }

    pub(super) fn time_scale(&self) -> TimeScale {
        self.environment.time_scale
    }

    pub(super) fn any_token(&mut self) -> usize {
        self.rng.random_range(self.tokens.in_use())
    }

    pub(super) fn any_layer(&mut self) -> usize {
        self.rng.random_range(0..self.environment.sites.len())
    }

    pub(super) async fn pass(&mut self, by: Duration) {
        self.may_be_extended();
        self.environment.pass(by).await;
        self.may_be_extended();
    }

    /// Lets other tasks run.
    pub(super) async fn give_way(&self, turns: u32) {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn release(&mut self) {
        if let Some((hold, _)) = self.hold.take() {
            hold.release();
            self.note("release".into());
        }
    }

    /// The output of the future, if it completes.
    pub(super) async fn outcome<T: Send + 'static>(
        &mut self,
        what: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let task = tokio::spawn(work);
        self.finished(what, task).await
    }

    pub(super) async fn finished<T>(&mut self, what: &str, mut task: JoinHandle<T>) -> Option<T> {
        if !self.time_scale().frozen {
            let Ok(outcome) = tokio::time::timeout(PATIENCE, &mut task).await else {
                self.wrong(what, "it is never answered");
                return None;
            };
            return self.unless_panicked(what, outcome);
        }
        let mut waits = Wait::begin();
        while !task.is_finished() {
            if !waits.turn(self).await {
                self.stuck = true;
                self.wrong(what, "it is never answered");
                return None;
            }
        }
        let outcome = task.await;
        self.unless_panicked(what, outcome)
    }

    fn unless_panicked<T>(
        &mut self,
        what: &str,
        outcome: Result<T, tokio::task::JoinError>,
    ) -> Option<T> {
        if outcome.is_err() {
            self.wrong(what, "it panicked");
        }
        outcome.ok()
    }

    /// Waits until no background work is in flight.
    pub(super) async fn quiet(&mut self) {
        let (mut waits, mut quiet) = (Wait::begin(), 0);
        while quiet < 8 {
            if !waits.turn(self).await {
                self.stuck = true;
                return self.wrong("the background", "it never comes to rest");
            }
            quiet = if self.environment.is_busy() { 0 } else { quiet + 1 };
        }
    }
}

/// Waiting for responses. The clock advances only while Authlete is slow.
struct Wait {
    turns: u32,
    begin: Instant,
}

impl Wait {
    fn begin() -> Self {
        Self { turns: 0, begin: Instant::now() }
    }

    /// Whether further waiting can succeed.
    async fn turn(&mut self, driver: &mut Driver) -> bool {
        self.turns += 1;
        if !driver.time_scale().frozen && self.turns.is_multiple_of(16) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            tokio::task::yield_now().await;
        }
        if driver.time_scale().frozen && driver.failures.now() && self.turns.is_multiple_of(32) {
            driver.pass(STEP).await;
        }
        let patience = if driver.stuck { Duration::ZERO } else { PATIENCE };
        !self.turns.is_multiple_of(64) || self.begin.elapsed() < patience
    }
}
