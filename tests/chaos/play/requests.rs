//! Requests, and whether their answers fit.

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body, extract::Request};
use http::StatusCode;
use http_body_util::BodyExt;
use rand::RngExt;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_authlete::ClientCertificate;

use super::{
    driver::{Driver, STEP},
    holders::{Bound, HOLDERS, Shown, certificate, proof},
    log::SECRET,
    model::{Bounds, Fact, Order, SCOPES, Seen, Token, With, judge},
    settings::{LIFE, NEW_TOKEN},
};

/// How many proofs are kept to be used again, and how many are known to be used up.
const SPARES: usize = 16;
const USED_UP: usize = 4096;

/// A request that was not looked at yet.
pub(crate) struct Waiting {
    plan: Plan,
    began: Order,
    at: SystemTime,
    what: String,
    task: JoinHandle<Reply>,
}

struct Plan {
    with: With,
    layer: usize,
    route: Route,
    scope: Option<usize>,
    shown: Shown,
    /// The number of the proof, and whether somebody else comes with it.
    proof: Option<u64>,
    replayed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Route {
    Cached,
    Fresh,
    Nested,
    Strict,
}

/// An answer, and when it came.
struct Reply {
    status: StatusCode,
    body: String,
    new: Option<String>,
    ended: Order,
    until: SystemTime,
}

/// A proof that can be used again.
pub(crate) struct Spare {
    token: usize,
    layer: usize,
    scope: Option<usize>,
    key: usize,
    number: u64,
    proof: String,
}

fn path(scope: Option<usize>) -> String {
    scope.map_or("/".to_owned(), |place| format!("/{}", SCOPES[place]))
}

impl Driver {
    /// Requests at the same time, now and then of a crowd, of which some are left alone until answers
    /// are released, and of which some meet with a change.
    pub(crate) async fn burst(&mut self) {
        let crowd = self.rng.random_bool(0.02);
        let requests =
            if crowd { self.rng.random_range(50..250) } else { self.rng.random_range(1..=5) };
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

    pub(crate) fn request(&mut self, token: Option<usize>, layer: usize) {
        let scope = [None, Some(0), Some(1)][self.rng.random_range(0..3)];
        let route = match self.rng.random_range(0..20) {
            0..2 => Route::Fresh,
            2..4 => Route::Nested,
            4..6 => Route::Strict,
            _ => Route::Cached,
        };
        let anonymous = token.is_none() && self.rng.random_bool(0.3);
        let shown = self.shown(token);
        let mut plan = Plan {
            with: With::Unknown,
            layer,
            route,
            scope: scope.filter(|_| !anonymous),
            shown,
            proof: None,
            replayed: false,
        };
        let value = match token {
            _ if anonymous => None,
            Some(token) => Some(self.tokens[token].value.clone()),
            None => Some(format!("{SECRET}-unknown-{}", self.rng.random_range(0..4))),
        };
        plan.with = match token {
            _ if anonymous => With::Nothing,
            None => With::Unknown,
            Some(number) => {
                let (bound, settings) =
                    (self.tokens[number].bound, &self.world.sites[layer].settings);
                With::Token { number, entitled: shown.suffices(bound, settings) }
            }
        };
        let proof = shown.key.zip(value.as_deref());
        let proof = proof.map(|(key, value)| self.prove(&mut plan, token, key, value));
        self.send(plan, value, proof);
    }

    /// What is shown beside a token: mostly what its holder does.
    fn shown(&mut self, token: Option<usize>) -> Shown {
        let bound = token.map_or(Bound::Nobody, |token| self.tokens[token].bound);
        let other = self.rng.random_range(0..HOLDERS);
        match self.rng.random_range(0..20) {
            0 => Shown { key: Some(other), certificate: None },
            1 => Shown { key: None, certificate: Some(other) },
            2 => Shown::default(),
            _ => Shown::by_holder(bound),
        }
    }

    /// A proof, which may have been used before.
    fn prove(&mut self, plan: &mut Plan, token: Option<usize>, key: usize, value: &str) -> String {
        if let Some(token) = token
            && self.rng.random_bool(0.15)
        {
            let fits = |spare: &&Spare| {
                (spare.token, spare.layer, spare.scope, spare.key)
                    == (token, plan.layer, plan.scope, key)
            };
            if let Some(spare) = self.spares.iter().find(fits) {
                plan.proof = Some(spare.number);
                plan.replayed = true;
                let same = |other: &&mut Waiting| other.plan.proof == plan.proof;
                let others = self.waiting.iter_mut().filter(same);
                others.for_each(|other| other.plan.replayed = true);
                return spare.proof.clone();
            }
        }
        self.proofs += 1;
        let number = self.proofs;
        let path = path(plan.scope);
        let proof = proof(&self.world.keys[key], value, &path, number, self.now());
        plan.proof = Some(number);
        if let Some(token) = token {
            self.spares.truncate(SPARES);
            let (layer, scope) = (plan.layer, plan.scope);
            self.spares.push_front(Spare {
                token,
                layer,
                scope,
                key,
                number,
                proof: proof.clone(),
            });
        }
        proof
    }

    fn send(&mut self, plan: Plan, value: Option<String>, proof: Option<String>) {
        let site = &self.world.sites[plan.layer];
        let router = match plan.route {
            Route::Cached => site.router.clone(),
            Route::Fresh => site.fresh.clone(),
            Route::Nested => site.nested.clone(),
            Route::Strict => site.strict.clone(),
        };
        if let With::Token { number, .. } = plan.with
            && site.settings.extends.is_some()
        {
            self.touched.insert(number);
        }
        let path = path(plan.scope);
        let mut request = Request::get(&path);
        if let Some(value) = value {
            let scheme = if proof.is_some() { "DPoP" } else { "Bearer" };
            request = request.header("authorization", format!("{scheme} {value}"));
        }
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        let mut request = request.body(Body::empty()).unwrap();
        if let Some(holder) = plan.shown.certificate {
            request.extensions_mut().insert(ClientCertificate::from_der(certificate(holder)));
        }
        let again = if plan.replayed { ", again" } else { "" };
        let what = format!(
            "{path} with {:?}, {:?}{again}, at {} ({:?})",
            plan.with, plan.shown, plan.layer, plan.route
        );
        let (order, clock) = (self.order.clone(), self.world.clock.clone());
        let (began, at) = (order.load(Ordering::SeqCst), self.now());
        let task = tokio::spawn(async move {
            let (status, body, new) = answer(router, request).await;
            let (ended, until) = (order.load(Ordering::SeqCst), clock.now());
            Reply { status, body, new, ended, until }
        });
        self.may_be_extended();
        self.note(what.clone());
        self.waiting.push(Waiting { plan, began, at, what, task });
    }

    /// Tokens in use may be extended, at any time until all is quiet.
    pub(crate) fn may_be_extended(&mut self) {
        let (now, life) = (self.now(), self.pace().seconds(LIFE) + self.pace().lag());
        for token in &self.touched {
            let token = &mut self.tokens[*token];
            if now < token.dead_from {
                token.dead_from = token.dead_from.max(now + life);
            }
        }
    }

    /// Releases what is held back, and looks at all answers.
    pub(crate) async fn settle(&mut self) {
        self.release();
        let mut answered = Vec::new();
        for Waiting { plan, began, at, what, task } in std::mem::take(&mut self.waiting) {
            self.tally.requests += 1;
            if let Some(reply) = self.finished(&what, task).await {
                answered.push(Answered { plan, began, at, what, reply });
            }
        }
        self.quiet().await;
        self.may_be_extended();
        self.learn_new_values(&answered);
        answered.iter().for_each(|answered| self.learn_of_calls(answered));
        answered.into_iter().for_each(|answered| self.look(answered));
        for token in self.tokens.out_of_use() {
            self.world.authlete.revoke(&token.value);
        }
        // While Authlete fails, calls may be made again after a while.
        let settled = !self.failures.now();
        self.touched.retain(|token| self.tokens.contains(*token) && !settled);
        self.failures.forget_old();
        while self.used_up.len() > USED_UP {
            self.used_up.pop_first();
        }
    }

    fn learn_of_calls(&mut self, Answered { plan, began, reply, .. }: &Answered) {
        let asks = matches!(plan.route, Route::Fresh | Route::Nested);
        let accepted = matches!(plan.with, With::Token { .. }) && reply.status == StatusCode::OK;
        if asks && accepted && !self.failures.during(*began, reply.ended) {
            let answered = &mut self.world.sites[plan.layer].answered;
            *answered = reply.ended.max(*answered);
        }
    }

    /// Tokens may have got new values, by which they are known from then on.
    fn learn_new_values(&mut self, answered: &[Answered]) {
        let mut turned = BTreeMap::<usize, (Order, usize, Option<&str>)>::new();
        for Answered { plan, began, what, reply, .. } in answered {
            let With::Token { number, .. } = plan.with else { continue };
            if self.world.sites[plan.layer].settings.rotates.is_none() {
                continue;
            }
            let turn = turned.entry(number).or_insert((*began, plan.layer, None));
            turn.0 = turn.0.min(*began);
            let Some(new) = reply.new.as_deref() else { continue };
            if turn.2.is_some_and(|before| before != new) {
                self.wrong(what, "a token got two new values at once");
            }
            (turn.1, turn.2) = (plan.layer, Some(new));
        }
        for (number, (began, layer, new)) in turned {
            match new {
                Some(new) => self.turn(number, began, layer, new),
                None if self.failures.during(began, self.order.load(Ordering::SeqCst)) => {
                    // It may have got one that is lost.
                    let now = self.now();
                    self.tokens[number].alive.doubt_from(began, now);
                }
                None => {}
            }
        }
    }

    fn turn(&mut self, number: usize, began: Order, layer: usize, new: &str) {
        let (order, now) = (self.next(), self.now());
        let old = &mut self.tokens[number];
        match &old.successor {
            Some((before, _)) if before == new => return,
            Some(_) => return self.wrong(&format!("token {number}"), "it got two new values"),
            None => old.successor = Some((new.to_owned(), layer)),
        }
        self.log.look_for(new.to_owned());
        self.tally.rotated += 1;
        let was_alive = old.alive.is_so_since(began);
        old.alive.doubt_from(began, now);
        if was_alive {
            let successor = Token {
                value: new.to_owned(),
                subject: old.subject.clone(),
                bound: old.bound,
                alive: Fact::new(order, now, true),
                scopes: old.scopes.clone(),
                lives_until: old.lives_until,
                dead_from: old.dead_from,
                learnt: old.learnt.clone(),
                ended_by: None,
                successor: None,
            };
            let next = self.tokens.end();
            self.tokens.push(successor);
            self.touched.insert(next);
            self.note(format!("{number} becomes {next} by {layer}"));
        }
        self.ended(number, order, now, "a new value");
        if self.world.sites[layer].settings.rotates == Some(0) {
            self.tokens[number].learnt[layer].push(order);
        }
    }

    /// Until when it has to be answered: nothing is known of what is done beside the check.
    fn latest(&self, plan: &Plan, at: SystemTime) -> Option<SystemTime> {
        let settings = &self.world.sites[plan.layer].settings;
        let checks = if plan.route == Route::Nested { 2 } else { 1 };
        let known = self.pace().frozen && settings.extends.is_none() && settings.rotates.is_none();
        known.then(|| at + self.pace().deadline * checks + STEP * 4)
    }

    /// When a call of a layer that may call nobody was answered last.
    fn answered(&self, plan: &Plan) -> Option<Order> {
        let site = &self.world.sites[plan.layer];
        site.bounds.breaks.then_some(site.answered)
    }

    fn look(&mut self, answered: Answered) {
        let Answered { plan, began, at, what, reply } = answered;
        let Reply { status, body, ended, until, .. } = reply;
        self.tally.accepted += u64::from(status == StatusCode::OK);
        self.tally.unavailable += u64::from(status == StatusCode::SERVICE_UNAVAILABLE);
        if let Some(proof) = plan.proof
            && status == StatusCode::OK
            && !self.used_up.insert(proof)
        {
            self.wrong(&what, "its proof was accepted before");
        }
        self.tally.rules.replayed += u64::from(plan.replayed);
        let fault = self.failures.during(began, ended);
        let just_before = self.failures.just_before((began, at), self.answered(&plan));
        let (site, none) = (&self.world.sites[plan.layer], Duration::ZERO);
        let seen = Seen {
            with: plan.with,
            proven: plan.proof.is_some(),
            replayed: plan.replayed,
            layer: plan.layer,
            bounds: match plan.route {
                Route::Cached => site.bounds,
                Route::Strict => Bounds { stale: site.bounds.stale / 2, ..site.bounds },
                Route::Fresh | Route::Nested => Bounds { age: none, stale: none, ..site.bounds },
            },
            optional: site.settings.optional,
            extends: site.settings.extends.is_some(),
            knows_subjects: !site.settings.by_update,
            scope: plan.scope,
            began,
            at,
            ended,
            until,
            latest: self.latest(&plan, at),
            status,
            body,
            fault,
            trouble: fault || just_before,
        };
        let token = match plan.with {
            With::Token { number, .. } => Some(&self.tokens[number]),
            _ => None,
        };
        if let Err(problem) = judge(token, &seen, &mut self.tally.rules) {
            self.wrong(&what, &problem);
        }
    }
}

/// A request that was answered.
struct Answered {
    plan: Plan,
    began: Order,
    at: SystemTime,
    what: String,
    reply: Reply,
}

async fn answer(router: Router, request: Request) -> (StatusCode, String, Option<String>) {
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let new = response.headers().get(NEW_TOKEN).and_then(|value| value.to_str().ok());
    let new = new.map(str::to_owned);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned(), new)
}
