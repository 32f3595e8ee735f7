//! Does things at random, and looks whether each answer fits what is true.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::{Index, IndexMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::StatusCode;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinHandle;
use tower_authlete::{
    api::{TokenUpdateAction, TokenUpdateRequest},
    emulator::{Api, Fault, Hold},
};

use crate::{
    model::{Bounds, Fact, Order, Rules, SCOPES, Seen, Token, judge},
    world::{CHECK, LIFE, Pace, SECRET, World, request},
};

/// Nothing is waited for longer. It is never reached.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much is told of what was done before something went wrong.
const REMEMBERED: usize = 40;

/// How many tokens are used, of which the oldest gives way to a new one.
const IN_USE: usize = 16;

pub(crate) struct Driver {
    seed: u64,
    pace: Pace,
    rng: StdRng,
    world: World,
    order: Arc<AtomicU64>,
    tokens: Tokens,
    waiting: Vec<Waiting>,
    hold: Option<Hold>,
    /// How long the clock may still be moved while answers are held back.
    leeway: Duration,
    faults: Vec<Failing>,
    /// Tokens that may be extended at any time.
    touched: BTreeSet<usize>,
    done: VecDeque<String>,
    tally: Tally,
    problem: Option<String>,
}

/// A request that was not looked at yet.
struct Waiting {
    token: Option<usize>,
    layer: usize,
    bounds: Bounds,
    scope: Option<usize>,
    began: Order,
    at: SystemTime,
    what: String,
    task: JoinHandle<(StatusCode, String, Order, SystemTime)>,
}

/// A time in which Authlete fails.
struct Failing {
    from: Order,
    end: Option<(Order, SystemTime)>,
}

/// The tokens that are in use, by number.
#[derive(Default)]
struct Tokens {
    first: usize,
    tokens: VecDeque<Token>,
}

impl Tokens {
    /// The number of the next one.
    fn end(&self) -> usize {
        self.first + self.tokens.len()
    }

    fn push(&mut self, token: Token) {
        self.tokens.push_back(token);
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Token> {
        self.tokens.iter_mut()
    }

    /// Takes those away that are not used any more.
    fn out_of_use(&mut self) -> Vec<Token> {
        let old = self.tokens.len().saturating_sub(IN_USE);
        self.first += old;
        self.tokens.drain(..old).collect()
    }
}

impl Index<usize> for Tokens {
    type Output = Token;

    fn index(&self, number: usize) -> &Token {
        &self.tokens[number - self.first]
    }
}

impl IndexMut<usize> for Tokens {
    fn index_mut(&mut self, number: usize) -> &mut Token {
        &mut self.tokens[number - self.first]
    }
}

/// What was done.
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
        self.rules.ended += other.rules.ended;
        self.rules.expired += other.rules.expired;
        self.rules.narrowed += other.rules.narrowed;
        self.rules.good += other.rules.good;
        self.rules.unknown += other.rules.unknown;
    }
}

impl Driver {
    pub(crate) async fn new(seed: u64, pace: Pace) -> Self {
        let mut driver = Self {
            seed,
            pace,
            rng: StdRng::seed_from_u64(seed),
            world: World::new(pace).await,
            order: Arc::default(),
            tokens: Tokens::default(),
            waiting: Vec::new(),
            hold: None,
            leeway: Duration::ZERO,
            faults: Vec::new(),
            touched: BTreeSet::new(),
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
        let full = sites.iter().filter(|site| site.calls.most_checks() == site.limit).count();
        let (calls, limit_reached) = (self.world.authlete.total_calls(), full as u64);
        Tally { calls, limit_reached, ..self.tally }
    }

    /// What is wrong, if anything is.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        for site in &self.world.sites {
            let most = site.calls.most_checks();
            if most > site.limit {
                self.problem = Some(format!("{}: {most} calls of {}", site.name, site.limit));
            }
        }
        self.problem.take().map_or(Ok(()), |problem| Err(self.fails(&problem)))
    }

    /// A problem, with what was done before it.
    pub(crate) fn fails(&self, problem: &str) -> String {
        let done: Vec<_> = self.done.iter().map(String::as_str).collect();
        format!("{problem}\n  {}", done.join("\n  "))
    }

    /// Does something.
    pub(crate) async fn operate(&mut self) {
        self.tally.operations += 1;
        if self.is_failing() && self.rng.random_bool(0.1) {
            self.recover().await;
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

    fn note(&mut self, what: String) {
        if self.done.len() == REMEMBERED {
            self.done.pop_front();
        }
        self.done.push_back(what);
    }

    /// The next place in the order of all that happens.
    fn next(&self) -> Order {
        self.order.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn now(&self) -> SystemTime {
        self.world.clock.now()
    }

    fn any_token(&mut self) -> usize {
        let recent = self.tokens.end().saturating_sub(IN_USE);
        self.rng.random_range(recent..self.tokens.end())
    }

    fn any_layer(&mut self) -> usize {
        self.rng.random_range(0..self.world.sites.len())
    }

    async fn issue(&mut self) {
        let number = self.tokens.end();
        let (value, subject) = (format!("{SECRET}-{}-{number}", self.seed), format!("u{number}"));
        let life = self.rng.random_range(20..400);
        let has = [self.rng.random_bool(0.6), self.rng.random_bool(0.6)];
        let scopes = SCOPES.iter().zip(has).filter(|(_, has)| *has).map(|(scope, _)| *scope);
        // Authlete knows whole milliseconds only.
        let lives_until = whole_millis(self.now() + self.pace.seconds(life));
        let token = self.world.authlete.token().value(&value).subject(&subject);
        token.scopes(scopes).expires_at(lives_until).issue().await;
        let (order, now) = (self.next(), self.now());
        let fact = |value| {
            let mut fact = Fact::default();
            fact.set(order, now, Some(value));
            fact
        };
        self.tokens.push(Token {
            value,
            subject,
            alive: fact(true),
            scopes: has.map(fact),
            lives_until,
            dead_from: lives_until,
            learnt: vec![Vec::new(); self.world.sites.len()],
            ended_by: None,
        });
        self.note(format!("issue {number} for {life} s with {has:?}"));
    }

    async fn revoke_here(&mut self) {
        let (token, layer) = (self.any_token(), self.any_layer());
        let value = self.tokens[token].value.clone();
        self.maybe_ended(token);
        let outcome = self.world.sites[layer].handle.revoke(&value).await;
        self.revoked(token, layer, outcome.is_ok());
    }

    fn maybe_ended(&mut self, token: usize) {
        let (order, now, token) = (self.next(), self.now(), &mut self.tokens[token]);
        if token.ended_by.is_none() {
            token.alive.set(order, now, None);
        }
    }

    fn revoked(&mut self, token: usize, layer: usize, ok: bool) {
        let (order, now) = (self.next(), self.now());
        if ok {
            self.ended(token, order, now, self.world.sites[layer].name);
        }
        // After a failure it is forgotten all the same.
        self.tokens[token].learnt[layer].push(order);
        self.note(format!("revoke {token} by {}: {ok}", self.world.sites[layer].name));
    }

    fn ended(&mut self, token: usize, order: Order, now: SystemTime, by: &str) {
        let token = &mut self.tokens[token];
        if token.ended_by.is_none() {
            token.alive.set(order, now, Some(false));
            token.ended_by = Some(by.to_owned());
        }
    }

    fn revoke_elsewhere(&mut self) {
        let token = self.any_token();
        self.maybe_ended(token);
        self.world.authlete.revoke(&self.tokens[token].value);
        let (order, now) = (self.next(), self.now());
        self.ended(token, order, now, "somebody else");
        self.note(format!("revoke {token} elsewhere"));
    }

    /// A request comes while a revocation is under way.
    async fn revoke_slowly(&mut self) {
        let (token, layer) = (self.any_token(), self.any_layer());
        let hold = self.world.authlete.hold(Api::TokenRevoke);
        let calls = self.world.authlete.calls(Api::TokenRevoke);
        self.maybe_ended(token);
        let (handle, value) =
            (self.world.sites[layer].handle.clone(), self.tokens[token].value.clone());
        let revocation = tokio::spawn(async move { handle.revoke(&value).await.is_ok() });
        self.world.authlete.arrived(Api::TokenRevoke, calls + 1).await;
        for _ in 0..3 {
            self.request(Some(token), layer);
        }
        tokio::task::yield_now().await;
        hold.release();
        let ok = revocation.await.unwrap();
        self.revoked(token, layer, ok);
        self.request(Some(token), layer);
        self.join_unless_held().await;
    }

    fn forget(&mut self) {
        let layer = self.any_layer();
        let handle = self.world.sites[layer].handle.clone();
        let name = self.world.sites[layer].name;
        if self.rng.random_bool(0.1) {
            handle.forget_all();
            let order = self.next();
            self.tokens.iter_mut().for_each(|token| token.learnt[layer].push(order));
            return self.note(format!("forget all by {name}"));
        }
        let token = self.any_token();
        handle.forget(&self.tokens[token].value);
        let order = self.next();
        self.tokens[token].learnt[layer].push(order);
        self.note(format!("forget {token} by {name}"));
    }

    /// Other scopes, which are not known until the change is answered.
    fn begin_update(&mut self, token: usize) -> ([bool; 2], TokenUpdateRequest) {
        let has = [self.rng.random_bool(0.5), self.rng.random_bool(0.5)];
        let scopes = SCOPES.iter().zip(has).filter(|(_, has)| *has).map(|(scope, _)| *scope);
        self.set_scopes(token, [None; 2]);
        (has, TokenUpdateRequest::new().scopes(scopes))
    }

    fn set_scopes(&mut self, token: usize, has: [Option<bool>; 2]) -> Order {
        let (order, now) = (self.next(), self.now());
        for (scope, has) in self.tokens[token].scopes.iter_mut().zip(has) {
            scope.set(order, now, has);
        }
        order
    }

    async fn update_here(&mut self) {
        let (token, layer) = (self.any_token(), self.any_layer());
        let (has, change) = self.begin_update(token);
        let (handle, value) =
            (self.world.sites[layer].handle.clone(), self.tokens[token].value.clone());
        let answer = handle.update(&value, change).await;
        let ok = answer.is_ok_and(|answer| answer.action == TokenUpdateAction::Ok);
        let order = self.set_scopes(token, has.map(|has| Some(has).filter(|_| ok)));
        self.tokens[token].learnt[layer].push(order);
        self.note(format!("update {token} to {has:?} by {}: {ok}", self.world.sites[layer].name));
    }

    async fn update_elsewhere(&mut self) {
        let token = self.any_token();
        let (has, change) = self.begin_update(token);
        let change = change.access_token(self.tokens[token].value.as_str());
        let answer = self.world.elsewhere.token_update(&change).await;
        let ok = answer.is_ok_and(|answer| answer.action == TokenUpdateAction::Ok);
        self.set_scopes(token, has.map(|has| Some(has).filter(|_| ok)));
        self.note(format!("update {token} to {has:?} elsewhere: {ok}"));
    }

    async fn let_time_pass(&mut self) {
        let by = if self.hold.is_some() {
            let by = self.leeway / 2;
            self.leeway -= by;
            by
        } else {
            self.settle().await;
            let most = [2_000, 12_000, 12_000, 30_000, 90_000][self.rng.random_range(0..5)];
            self.pace.second * self.rng.random_range(1..most) / 1000
        };
        if self.pace.frozen {
            self.world.clock.advance(by);
        } else {
            tokio::time::sleep(by).await;
        }
        self.may_be_extended();
        self.note(format!("{} ms pass", by.as_millis()));
    }

    /// Tokens in use may be extended, at any time until all is quiet.
    fn may_be_extended(&mut self) {
        let now = self.now();
        for token in &self.touched {
            let token = &mut self.tokens[*token];
            if now < token.dead_from {
                token.dead_from = token.dead_from.max(now + self.pace.seconds(LIFE) + CHECK);
            }
        }
    }

    fn fail(&mut self) {
        if self.is_failing() {
            return;
        }
        let fault = match self.rng.random_range(0..3) {
            0 => Fault::status(503),
            1 => Fault::reset(),
            _ => Fault::truncated(),
        };
        let times = self.rng.random_range(1..8);
        let fault = if self.rng.random_bool(0.5) { fault.times(times) } else { fault };
        let fault = if self.rng.random_bool(0.5) { fault.on(Api::Introspection) } else { fault };
        self.note(format!("{fault:?}"));
        self.faults.push(Failing { from: self.next(), end: None });
        self.world.authlete.fault(fault);
    }

    fn is_failing(&self) -> bool {
        self.faults.last().is_some_and(|fault| fault.end.is_none())
    }

    async fn recover(&mut self) {
        self.settle().await;
        if !self.pace.frozen {
            // What was begun in the background may not have got to Authlete yet.
            tokio::time::sleep(self.pace.second).await;
            self.world.quiet().await;
        }
        self.world.authlete.clear_faults();
        let end = (self.next(), self.now());
        self.faults.last_mut().unwrap().end = Some(end);
        self.note("all is well".into());
    }

    async fn hold_or_release(&mut self) {
        if self.hold.is_some() {
            self.settle().await;
        } else {
            self.settle().await;
            self.hold = Some(self.world.authlete.hold(Api::Introspection));
            self.leeway = Duration::from_secs(2).min(self.pace.seconds(2));
            self.note("hold".into());
        }
    }

    /// Requests at the same time, of which some are left alone until answers are released, and of which
    /// some meet with a change.
    async fn burst(&mut self) {
        let requests = self.rng.random_range(1..=5);
        let (one, same) = (self.any_token(), self.rng.random_bool(0.3));
        let layer = self.any_layer();
        for _ in 0..requests {
            let token = if same { one } else { self.any_token() };
            let layer = if self.rng.random_bool(0.5) { layer } else { self.any_layer() };
            let known = !self.rng.random_bool(0.05);
            self.request(Some(token).filter(|_| known), layer);
        }
        if self.rng.random_bool(0.3) {
            for _ in 0..self.rng.random_range(0..6) {
                tokio::task::yield_now().await;
            }
            match self.rng.random_range(0..4) {
                0 => self.forget(),
                1 => self.revoke_elsewhere(),
                2 => self.revoke_here().await,
                _ => self.update_here().await,
            }
        }
        self.join_unless_held().await;
    }

    fn request(&mut self, token: Option<usize>, layer: usize) {
        let scope = [None, Some(0), Some(1)][self.rng.random_range(0..3)];
        let path = scope.map_or("/".to_owned(), |place| format!("/{}", SCOPES[place]));
        let fresh = self.rng.random_bool(0.1);
        let site = &self.world.sites[layer];
        let none = Bounds { age: Duration::ZERO, stale: Duration::ZERO };
        let (router, bounds) =
            if fresh { (site.fresh.clone(), none) } else { (site.router.clone(), site.bounds) };
        let value = match token {
            Some(token) => self.tokens[token].value.clone(),
            None => format!("{SECRET}-unknown-{}", self.rng.random_range(0..4)),
        };
        if let Some(token) = token.filter(|_| site.extends) {
            self.touched.insert(token);
        }
        let what = format!(
            "{path} with {token:?} at {}{}",
            site.name,
            ["", ", fresh"][usize::from(fresh)]
        );
        let (order, clock) = (self.order.clone(), self.world.clock.clone());
        let (began, at) = (order.load(Ordering::SeqCst), self.now());
        let task = tokio::spawn(async move {
            let (status, body) = request(router, &path, &value).await;
            (status, body, order.load(Ordering::SeqCst), clock.now())
        });
        self.may_be_extended();
        self.note(what.clone());
        self.waiting.push(Waiting { token, layer, bounds, scope, began, at, what, task });
    }

    async fn join_unless_held(&mut self) {
        if self.hold.is_none() || self.waiting.len() > 40 {
            self.settle().await;
        }
    }

    /// Releases what is held back, and looks at all answers.
    pub(crate) async fn settle(&mut self) {
        if let Some(hold) = self.hold.take() {
            hold.release();
            self.note("release".into());
        }
        for waiting in std::mem::take(&mut self.waiting) {
            self.look(waiting).await;
        }
        self.world.quiet().await;
        self.may_be_extended();
        self.touched.clear();
        for token in self.tokens.out_of_use() {
            self.world.authlete.revoke(&token.value);
        }
        // Nobody looks further back than to the last failure.
        self.faults.drain(..self.faults.len().saturating_sub(1));
    }

    async fn look(&mut self, waiting: Waiting) {
        self.tally.requests += 1;
        let Waiting { token, layer, bounds, scope, began, at, what, task } = waiting;
        let patience = if self.problem.is_some() { Duration::ZERO } else { PATIENCE };
        let Ok(answer) = tokio::time::timeout(patience, task).await else {
            return self.wrong(&what, "it is never answered");
        };
        let Ok((status, body, ended, until)) = answer else {
            return self.wrong(&what, "it panicked");
        };
        self.may_be_extended();
        self.tally.accepted += u64::from(status == StatusCode::OK);
        self.tally.unavailable += u64::from(status == StatusCode::SERVICE_UNAVAILABLE);
        let fault = self
            .faults
            .iter()
            .any(|failing| failing.from <= ended && failing.end.is_none_or(|(end, _)| began < end));
        // For a second, who can do without does not wait.
        let moment = Duration::from_secs(1);
        let trouble = fault
            || self.faults.iter().any(|failing| {
                failing.end.is_some_and(|(end, then)| end <= began && at < then + moment)
            });
        let token = token.map(|token| &self.tokens[token]);
        let seen =
            Seen { layer, bounds, scope, began, at, ended, until, status, body, fault, trouble };
        if let Err(problem) = judge(token, &seen, &mut self.tally.rules) {
            self.wrong(&what, &problem);
        }
    }

    fn wrong(&mut self, what: &str, problem: &str) {
        self.tally.wrong += 1;
        self.problem.get_or_insert_with(|| format!("{what}: {problem}"));
    }
}

fn whole_millis(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    at - Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000))
}
