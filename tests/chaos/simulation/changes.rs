//! Operations on tokens.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use rand::RngExt;
use tower_authlete::{
    api::{TokenUpdateAction, TokenUpdateRequest},
    emulator::Api,
};

use super::{
    driver::Driver,
    holders::{Bound, HOLDERS, certificate_thumbprint},
    log::SECRET,
    model::{Fact, Order, Pair, SCOPES, Token},
};

/// A token that was issued.
pub(super) struct New {
    pub(super) value: String,
    pub(super) subject: String,
    pub(super) bound: Bound,
    pub(super) has: [bool; 2],
    pub(super) pair: Option<Pair>,
}

impl Driver {
    pub(crate) async fn issue(&mut self) {
        let number = self.tokens.end();
        let (value, subject) = (format!("{SECRET}-{}-{number}", self.seed), format!("u{number}"));
        let life = self.rng.random_range(20..400);
        let has = self.any_scopes();
        let scopes = SCOPES.iter().zip(has).filter(|(_, has)| *has).map(|(scope, _)| *scope);
        let holder = self.rng.random_range(0..HOLDERS);
        let bound = match self.rng.random_range(0..10) {
            0..3 => Bound::Key(holder),
            3..5 => Bound::Certificate(holder),
            _ => Bound::Nobody,
        };
        // Authlete knows whole milliseconds only.
        let lives_until = whole_millis(self.now() + self.time_scale().seconds(life));
        let token = self.environment.authlete.token().value(&value).subject(&subject);
        let token = match bound {
            Bound::Nobody => token,
            Bound::Key(key) => token.dpop_key_thumbprint(self.environment.keys[key].thumbprint()),
            Bound::Certificate(holder) => {
                token.certificate_thumbprint(certificate_thumbprint(holder))
            }
        };
        token.scopes(scopes).expires_at(lives_until).issue().await;
        self.keep(New { value, subject, bound, has, pair: None }, lives_until..lives_until);
        self.note(format!("issue {number} for {life} s with {has:?}, bound to {bound:?}"));
    }

    pub(super) fn any_scopes(&mut self) -> [bool; 2] {
        [self.rng.random_bool(0.6), self.rng.random_bool(0.6)]
    }

    /// Adds a token that expires between these times.
    pub(super) fn keep(&mut self, new: New, ends: Range<SystemTime>) {
        let New { value, subject, bound, has, pair } = new;
        let (order, now, layers) = (self.next(), self.now(), self.environment.sites.len());
        self.tokens.push(Token {
            value,
            subject,
            bound,
            pair,
            alive: Fact::new(order, now, true),
            scopes: has.map(|has| Fact::new(order, now, has)),
            lives_until: ends.start,
            dead_from: ends.end + self.time_scale().lag(),
            learnt: vec![Vec::new(); layers],
            seen: vec![None; layers],
            ended_by: None,
            successor: None,
        });
    }

    pub(crate) async fn revoke_here(&mut self) {
        let (token, layer) = (self.any_token(), self.any_layer());
        self.revoke_at(token, layer).await;
    }

    pub(super) async fn revoke_at(&mut self, token: usize, layer: usize) {
        let line = self.begin_revocation(token, layer);
        let (handle, value) = (self.environment.sites[layer].handle.clone(), self.value(token));
        let revocation = async move { handle.revoke(&value).await.is_ok() };
        let ok = self.outcome("a revocation", revocation).await;
        self.revoked(line, layer, ok == Some(true));
    }

    fn value(&self, token: usize) -> String {
        self.tokens[token].value.clone()
    }

    pub(super) fn maybe_ended(&mut self, token: usize) {
        let (order, now, token) = (self.next(), self.now(), &mut self.tokens[token]);
        if token.ended_by.is_none() {
            token.alive.set(order, now, None);
        }
    }

    /// A layer that knows further values of the token revokes those too.
    pub(super) fn begin_revocation(&mut self, token: usize, layer: usize) -> Vec<usize> {
        let line = self.tokens.line(token, layer);
        for token in self.tokens.lineage(token) {
            self.maybe_ended(token);
        }
        line
    }

    pub(super) fn revoked(&mut self, line: Vec<usize>, layer: usize, ok: bool) {
        let (order, now) = (self.next(), self.now());
        for token in &line {
            if ok {
                self.ended(*token, order, now, &format!("layer {layer}"));
            }
        }
        // A failure invalidates too.
        self.forgotten(line[0], layer);
        self.note(format!("revoke {line:?} by {layer}: {ok}"));
    }

    pub(crate) fn revoke_elsewhere(&mut self) {
        let token = self.any_token();
        self.maybe_ended(token);
        self.environment.authlete.revoke(&self.tokens[token].value);
        let (order, now) = (self.next(), self.now());
        self.ended(token, order, now, "somebody else");
        self.note(format!("revoke {token} elsewhere"));
    }

    /// A request arrives during a revocation.
    pub(crate) async fn revoke_slowly(&mut self) {
        if self.failures.now() {
            return;
        }
        let (token, layer) = (self.any_token(), self.any_layer());
        let hold = self.environment.authlete.hold(Api::TokenRevoke);
        let calls = self.environment.authlete.calls(Api::TokenRevoke);
        let line = self.begin_revocation(token, layer);
        let (handle, value) = (self.environment.sites[layer].handle.clone(), self.value(token));
        let revocation = tokio::spawn(async move { handle.revoke(&value).await.is_ok() });
        self.environment.authlete.arrived(Api::TokenRevoke, calls + 1).await;
        for _ in 0..3 {
            self.request(Some(token), layer);
        }
        tokio::task::yield_now().await;
        hold.release();
        let ok = revocation.await.unwrap();
        self.revoked(line, layer, ok);
        self.request(Some(token), layer);
        self.join_unless_held().await;
    }

    /// Invalidates all values of a token in a layer.
    pub(super) fn forgotten(&mut self, token: usize, layer: usize) {
        let order = self.next();
        for token in self.tokens.relatives(token, layer) {
            self.tokens[token].learnt[layer].push(order);
        }
    }

    pub(crate) fn forget(&mut self) {
        let layer = self.any_layer();
        let handle = self.environment.sites[layer].handle.clone();
        if self.rng.random_bool(0.1) {
            handle.forget_all();
            let order = self.next();
            self.tokens.iter_mut().for_each(|token| token.learnt[layer].push(order));
            return self.note(format!("forget all by {layer}"));
        }
        let token = self.any_token();
        handle.forget(&self.tokens[token].value);
        self.forgotten(token, layer);
        self.note(format!("forget {token} by {layer}"));
    }

    /// Changes the scopes. They are unknown until the call is answered.
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

    pub(crate) async fn update_here(&mut self) {
        let (token, layer) = (self.any_token(), self.any_layer());
        let (has, change) = self.begin_update(token);
        let (handle, value) = (self.environment.sites[layer].handle.clone(), self.value(token));
        let update = async move { handle.update(&value, change).await };
        let answer = self.outcome("an update", update).await;
        let ok =
            answer.is_some_and(|it| it.is_ok_and(|answer| answer.action == TokenUpdateAction::Ok));
        let order = self.set_scopes(token, has.map(|has| Some(has).filter(|_| ok)));
        self.tokens[token].learnt[layer].push(order);
        if !ok {
            self.forgotten(token, layer);
        }
        self.note(format!("update {token} to {has:?} by {layer}: {ok}"));
    }

    pub(crate) async fn update_elsewhere(&mut self) {
        let token = self.any_token();
        self.change_elsewhere(token).await;
    }

    pub(super) async fn change_elsewhere(&mut self, token: usize) {
        let (has, change) = self.begin_update(token);
        let (client, value) = (self.environment.elsewhere.clone(), self.value(token));
        let update = async move { client.token_update(&change.access_token(value.as_str())).await };
        let answer = self.outcome("an update elsewhere", update).await;
        let ok =
            answer.is_some_and(|it| it.is_ok_and(|answer| answer.action == TokenUpdateAction::Ok));
        self.set_scopes(token, has.map(|has| Some(has).filter(|_| ok)));
        self.note(format!("update {token} to {has:?} elsewhere: {ok}"));
    }
}

pub(super) fn whole_millis(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    at - Duration::from_nanos(u64::from(since.subsec_nanos() % 1_000_000))
}
