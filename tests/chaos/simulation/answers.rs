//! Compares responses with the model.

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use http::StatusCode;

use super::{
    driver::{Driver, STEP},
    faults::Reluctant,
    model::{Bounds, Fact, Order, Seen, Token, With, judge},
    waiting::{Answered, Plan, Reply, Route, Waiting},
};

/// How many used proofs are remembered.
const USED_UP: usize = 4096;

/// How many requests may be pending until responses are released.
const MOST_WAITING: usize = 300;

impl Driver {
    pub(super) async fn join_unless_held(&mut self) {
        if self.hold.is_none() || self.waiting.len() > MOST_WAITING {
            self.settle().await;
        }
    }

    /// Releases held responses, and checks all responses.
    pub(crate) async fn settle(&mut self) {
        self.release();
        let mut answered = Vec::new();
        for Waiting { plan, began, at, what, task } in std::mem::take(&mut self.waiting) {
            self.tally.requests += 1;
            if let Some(reply) = self.finished(&what, task).await {
                answered.push(Answered { plan, began, at, what, reply });
            }
        }
        self.end_flood().await;
        self.quiet().await;
        self.may_be_extended();
        self.learn_new_values(&answered);
        self.end_extensions(&answered);
        answered.iter().for_each(|answered| self.learn_of_calls(answered));
        answered.into_iter().for_each(|answered| self.look(answered));
        for token in self.tokens.out_of_use() {
            self.environment.authlete.revoke(&token.value);
        }
        let tokens = &self.tokens;
        self.extensions.retain(|(token, _), _| tokens.contains(*token));
        self.failures.forget_old();
        while self.used_up.len() > USED_UP {
            self.used_up.pop_first();
        }
    }

    fn learn_of_calls(&mut self, Answered { plan, began, reply, .. }: &Answered) {
        let asks = matches!(plan.route, Route::Fresh | Route::Nested);
        let accepted = matches!(plan.with, With::Token { .. }) && reply.status == StatusCode::OK;
        if asks && accepted && !self.failures.during(*began, reply.ended) {
            let answered = &mut self.environment.sites[plan.layer].answered;
            *answered = reply.ended.max(*answered);
        }
    }

    /// Records new values of tokens.
    fn learn_new_values(&mut self, answered: &[Answered]) {
        let mut turned = BTreeMap::<usize, (Order, usize, Option<&str>)>::new();
        for Answered { plan, began, what, reply, .. } in answered {
            let With::Token { number, .. } = plan.with else { continue };
            if self.environment.sites[plan.layer].settings.rotates.is_none() {
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
                    // The response with the new value may be lost.
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
                pair: old.pair.clone().filter(|pair| pair.layer == layer),
                alive: Fact::new(order, now, true),
                scopes: old.scopes.clone(),
                lives_until: old.lives_until,
                dead_from: old.dead_from,
                learnt: old.learnt.clone(),
                // Other layers do not know that it is the same token.
                seen: (0..).zip(&old.seen).map(|(by, at)| at.filter(|_| by == layer)).collect(),
                ended_by: None,
                successor: None,
            };
            let next = self.tokens.end();
            self.tokens.push(successor);
            self.hand_extensions_on(number, next);
            self.note(format!("{number} becomes {next} by {layer}"));
        }
        self.ended(number, order, now, "a new value");
        if self.environment.sites[layer].settings.rotates == Some(0) {
            self.tokens[number].learnt[layer].push(order);
        }
    }

    /// The deadline of the response; `None` if work beside the check has no bound.
    fn latest(&self, plan: &Plan, at: SystemTime) -> Option<SystemTime> {
        let settings = &self.environment.sites[plan.layer].settings;
        let checks = if plan.route == Route::Nested { 2 } else { 1 };
        let known =
            self.time_scale().frozen && settings.extends.is_none() && settings.rotates.is_none();
        known.then(|| at + self.time_scale().deadline * checks + STEP * 4)
    }

    /// Whether Authlete failed so shortly before that the layer may be affected.
    fn just_before(&self, plan: &Plan, began: Order, at: SystemTime) -> bool {
        let site = &self.environment.sites[plan.layer];
        let (answered, stepped) = (site.answered, site.clock.stepped_since(site.answered));
        let reluctant = (site.bounds.breaks || stepped).then_some(Reluctant { answered, stepped });
        self.failures.just_before((began, at), reluctant)
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
        let just_before = self.just_before(&plan, began, at);
        let (site, none) = (&self.environment.sites[plan.layer], Duration::ZERO);
        let takes = |place| plan.scope == Some(place) || site.settings.requires == Some(place);
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
            late: match plan.route {
                Route::Fresh => none,
                // The layer outside has a cache.
                _ => site.bounds.age + site.bounds.stale,
            },
            optional: site.settings.optional,
            extends: site.settings.extends.is_some(),
            knows_subjects: !site.settings.by_update,
            asks_expiry: !site.settings.by_update,
            takes: [takes(0), takes(1)],
            going: site.clock.going(began, ended),
            doubts_proofs: site.doubts_proofs(),
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

    pub(crate) fn ended(&mut self, token: usize, order: Order, now: SystemTime, by: &str) {
        let token = &mut self.tokens[token];
        if token.ended_by.is_none() {
            token.alive.set(order, now, Some(false));
            token.ended_by = Some(by.to_owned());
        }
    }
}
