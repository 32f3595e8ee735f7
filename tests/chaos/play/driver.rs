//! Does things at random.

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
use tower_authlete::emulator::{Api, Hold};

use super::{
    faults::{self, Failures},
    log::Log,
    model::Order,
    requests::{Spare, Waiting},
    tally::Tally,
    tokens::Tokens,
    world::{Pace, World},
};

/// Nothing is waited for longer. It is never reached.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much is told of what was done before something went wrong.
const REMEMBERED: usize = 60;

/// In steps of this, time passes while Authlete is slow.
pub(super) const STEP: Duration = Duration::from_millis(100);

/// How many requests are left alone at most until answers are released.
const MOST_WAITING: usize = 300;

pub(crate) struct Driver {
    pub(super) seed: u64,
    pub(super) rng: StdRng,
    pub(super) world: World,
    pub(super) log: Log,
    pub(super) order: Arc<AtomicU64>,
    pub(super) tokens: Tokens,
    pub(super) waiting: Vec<Waiting>,
    /// Until when answers are held back, if they are: nobody waits in vain for them.
    hold: Option<(Hold, SystemTime)>,
    pub(super) failures: Failures,
    /// Tokens that may be extended at any time.
    pub(super) touched: BTreeSet<usize>,
    /// Proofs that were made of late.
    pub(super) spares: VecDeque<Spare>,
    pub(super) proofs: u64,
    /// Proofs by which a request was accepted.
    pub(super) used_up: BTreeSet<u64>,
    done: VecDeque<String>,
    pub(super) tally: Tally,
    problem: Option<String>,
}

impl Driver {
    pub(crate) async fn new(seed: u64, pace: Pace, log: Log) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut driver = Self {
            seed,
            world: World::new(pace, &mut rng).await,
            rng,
            log,
            order: Arc::default(),
            tokens: Tokens::default(),
            waiting: Vec::new(),
            hold: None,
            failures: Failures::default(),
            touched: BTreeSet::new(),
            spares: VecDeque::new(),
            proofs: 0,
            used_up: BTreeSet::new(),
            done: VecDeque::new(),
            tally: Tally::default(),
            problem: None,
        };
        for _ in 0..8 {
            driver.issue().await;
        }
        driver
    }

    pub(crate) fn tally(&self) -> Tally {
        let sites = &self.world.sites;
        let full = sites.iter().filter(|site| site.calls.most_checks() == site.limit()).count();
        let (calls, limit_reached) = (self.world.authlete.total_calls(), full as u64);
        Tally { calls, limit_reached, ..self.tally }
    }

    /// What is wrong, if anything is.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        for (layer, site) in self.world.sites.iter().enumerate() {
            let most = site.calls.most_checks();
            if most > site.limit() {
                self.problem = Some(format!("layer {layer}: {most} calls of {}", site.limit()));
            }
        }
        self.problem.take().map_or(Ok(()), |problem| Err(self.fails(&problem)))
    }

    /// A problem, with what was done before it and in which world.
    pub(crate) fn fails(&self, problem: &str) -> String {
        let done: Vec<_> = self.done.iter().map(String::as_str).collect();
        let sites = self.world.sites.iter().enumerate();
        let sites: Vec<_> =
            sites.map(|(layer, site)| format!("layer {layer}: {:?}", site.settings)).collect();
        format!("{problem}\n  {}\n  {}", done.join("\n  "), sites.join("\n  "))
    }

    /// Does something.
    pub(crate) async fn operate(&mut self) {
        self.tally.operations += 1;
        if self.failures.now() && self.rng.random_bool(0.1) {
            self.recover().await;
        }
        if self.hold.as_ref().is_some_and(|(_, until)| *until <= self.now()) {
            self.settle().await;
        }
        match self.rng.random_range(0..100) {
            0..50 => self.burst().await,
            50..64 => self.issue().await,
            64..67 => self.revoke_here().await,
            67..70 => self.revoke_elsewhere(),
            70..74 => self.forget(),
            74..78 => self.update_here().await,
            78..82 => self.update_elsewhere().await,
            82..91 => self.let_time_pass().await,
            91..93 => self.fail(),
            93..99 => self.hold_or_release().await,
            _ => self.revoke_slowly().await,
        }
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

    /// The next place in the order of all that happens.
    pub(super) fn next(&self) -> Order {
        self.order.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn now(&self) -> SystemTime {
        self.world.clock.now()
    }

    pub(super) fn pace(&self) -> Pace {
        self.world.pace
    }

    pub(super) fn any_token(&mut self) -> usize {
        self.rng.random_range(self.tokens.in_use())
    }

    pub(super) fn any_layer(&mut self) -> usize {
        self.rng.random_range(0..self.world.sites.len())
    }

    async fn let_time_pass(&mut self) {
        let by = if let Some((_, until)) = &self.hold {
            until.duration_since(self.now()).unwrap_or_default() / 2
        } else {
            self.settle().await;
            let most = [2_000, 12_000, 12_000, 30_000, 90_000][self.rng.random_range(0..5)];
            self.pace().second * self.rng.random_range(1..most) / 1000
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

    pub(super) async fn pass(&mut self, by: Duration) {
        self.may_be_extended();
        self.world.pass(by).await;
        self.may_be_extended();
    }

    /// Lets others do what they can do by now.
    pub(super) async fn give_way(&self, turns: u32) {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }

    fn fail(&mut self) {
        if self.failures.now() {
            return;
        }
        let (fault, slow) = faults::choose(&mut self.rng, self.world.pace.deadline);
        self.note(format!("{fault:?}"));
        self.failures.begin(self.next());
        self.tally.slow += u64::from(slow);
        self.world.authlete.fault(fault);
    }

    async fn recover(&mut self) {
        self.settle().await;
        self.world.authlete.clear_faults();
        // What was begun in the background may still wait, or may be made again in a moment.
        self.pass(self.pace().deadline + STEP).await;
        self.quiet().await;
        self.failures.end(self.next(), self.now());
        self.note("all is well".into());
    }

    async fn hold_or_release(&mut self) {
        let held = self.hold.is_some();
        self.settle().await;
        if !held {
            let until = self.now() + self.pace().deadline * 2 / 3;
            self.hold = Some((self.world.authlete.hold(Api::Introspection), until));
            self.note("hold".into());
        }
    }

    pub(super) fn release(&mut self) {
        if let Some((hold, _)) = self.hold.take() {
            hold.release();
            self.note("release".into());
        }
    }

    pub(super) async fn join_unless_held(&mut self) {
        if self.hold.is_none() || self.waiting.len() > MOST_WAITING {
            self.settle().await;
        }
    }

    /// What comes of it, if anything does.
    pub(super) async fn outcome<T: Send + 'static>(
        &mut self,
        what: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let task = tokio::spawn(work);
        self.finished(what, task).await
    }

    pub(super) async fn finished<T>(&mut self, what: &str, mut task: JoinHandle<T>) -> Option<T> {
        if !self.pace().frozen {
            let Ok(outcome) = tokio::time::timeout(PATIENCE, &mut task).await else {
                self.wrong(what, "it is never answered");
                return None;
            };
            return self.unless_panicked(what, outcome);
        }
        let mut waits = Wait::begin();
        while !task.is_finished() {
            if !waits.turn(self).await {
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

    /// Waits until nothing is under way in the background.
    pub(super) async fn quiet(&mut self) {
        let (mut waits, mut quiet) = (Wait::begin(), 0);
        while quiet < 8 {
            if !waits.turn(self).await {
                return self.wrong("the background", "it never comes to rest");
            }
            quiet = if self.world.is_busy() { 0 } else { quiet + 1 };
        }
    }
}

/// Waiting for answers, which takes no time of the clock unless Authlete is slow.
struct Wait {
    turns: u32,
    begin: Instant,
}

impl Wait {
    fn begin() -> Self {
        Self { turns: 0, begin: Instant::now() }
    }

    /// Whether it is worth while to wait on.
    async fn turn(&mut self, driver: &mut Driver) -> bool {
        self.turns += 1;
        if !driver.pace().frozen && self.turns.is_multiple_of(16) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            tokio::task::yield_now().await;
        }
        if driver.pace().frozen && driver.failures.now() && self.turns.is_multiple_of(32) {
            driver.pass(STEP).await;
        }
        !self.turns.is_multiple_of(64) || self.begin.elapsed() < PATIENCE
    }
}
