//! Requests.

use std::sync::atomic::Ordering;

use axum::{Router, body::Body, extract::Request};
use http::StatusCode;
use http_body_util::BodyExt;
use rand::RngExt;
use tower::ServiceExt;
use tower_authlete::proof::ClientCertificate;

use super::{
    driver::Driver,
    holders::{Bound, HOLDERS, Shown, certificate, proof},
    log::SECRET,
    model::{SCOPES, Token, With},
    settings::NEW_TOKEN,
    waiting::{Plan, Proof, Reply, Route, Spare, Waiting},
};

/// How many proofs are kept to be used again.
const SPARES: usize = 16;

fn path(scope: Option<usize>) -> String {
    scope.map_or("/".to_owned(), |place| format!("/{}", SCOPES[place]))
}

impl Driver {
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
        let mut plan = Plan::new(With::Unknown, layer, shown);
        (plan.route, plan.scope) = (route, scope.filter(|_| !anonymous));
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
                    (self.tokens[number].bound, &self.environment.sites[layer].settings);
                With::Token { number, entitled: settings.admits(shown, bound) }
            }
        };
        let proof = shown.key.zip(value.as_deref());
        let proof = proof.map(|(key, value)| self.prove(&mut plan, token, key, value));
        self.send(plan, value, proof.map(|proof| proof.text));
    }

    /// A request of the holder to a route without scopes, with a used or a new proof if the token is bound.
    /// Returns which.
    pub(super) fn holders_request(
        &mut self,
        token: usize,
        layer: usize,
        again: Option<Proof>,
    ) -> Option<Proof> {
        // It was replaced by newer ones meanwhile.
        if !self.tokens.contains(token) {
            return None;
        }
        let Token { value, bound, .. } = &self.tokens[token];
        let (value, shown) = (value.clone(), Shown::by_holder(*bound));
        let entitled = self.environment.sites[layer].settings.admits(shown, *bound);
        let mut plan = Plan::new(With::Token { number: token, entitled }, layer, shown);
        plan.replayed = again.is_some();
        let make = |key| again.unwrap_or_else(|| self.new_proof(&plan, key, &value));
        let proof = shown.key.map(make);
        plan.proof = proof.as_ref().map(|proof| proof.number);
        self.send(plan, Some(value), proof.clone().map(|proof| proof.text));
        proof
    }

    /// The proof or certificate of a request: mostly those of the holder.
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
    fn prove(&mut self, plan: &mut Plan, token: Option<usize>, key: usize, value: &str) -> Proof {
        if let Some(token) = token
            && self.rng.random_bool(0.15)
        {
            let fits = |spare: &&Spare| {
                (spare.token, spare.layer, spare.scope, spare.key)
                    == (token, plan.layer, plan.scope, key)
            };
            if let Some(Spare { proof, .. }) = self.spares.iter().find(fits) {
                plan.proof = Some(proof.number);
                plan.replayed = true;
                let same = |other: &&mut Waiting| other.plan.proof == plan.proof;
                let others = self.waiting.iter_mut().filter(same);
                others.for_each(|other| other.plan.replayed = true);
                return proof.clone();
            }
        }
        let proof = self.new_proof(plan, key, value);
        plan.proof = Some(proof.number);
        if let Some(token) = token {
            self.spares.truncate(SPARES);
            let (layer, scope) = (plan.layer, plan.scope);
            self.spares.push_front(Spare { token, layer, scope, key, proof: proof.clone() });
        }
        proof
    }

    /// A proof of a client with the layer's clock.
    pub(super) fn new_proof(&mut self, plan: &Plan, key: usize, value: &str) -> Proof {
        self.proofs += 1;
        let (number, path) = (self.proofs, path(plan.scope));
        let now = self.environment.sites[plan.layer].clock.clock.now();
        let text = proof(&self.environment.keys[key], value, &path, number, now);
        Proof { number, text }
    }

    pub(super) fn send(&mut self, plan: Plan, value: Option<String>, proof: Option<String>) {
        let site = &self.environment.sites[plan.layer];
        let router = match plan.route {
            Route::Cached => site.router.clone(),
            Route::Fresh => site.fresh.clone(),
            Route::Nested => site.nested.clone(),
            Route::Strict => site.strict.clone(),
        };
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
        let (order, clock) = (self.order.clone(), self.environment.clock.clone());
        let (began, at) = (order.load(Ordering::SeqCst), self.now());
        let task = tokio::spawn(async move {
            let (status, body, new) = answer(router, request).await;
            let (ended, until) = (order.load(Ordering::SeqCst), clock.now());
            Reply { status, body, new, ended, until }
        });
        if let With::Token { number, .. } = plan.with {
            self.touch(number, plan.layer);
        }
        self.note(what.clone());
        self.waiting.push(Waiting { plan, began, at, what, task });
    }
}

async fn answer(router: Router, request: Request) -> (StatusCode, String, Option<String>) {
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let new = response.headers().get(NEW_TOKEN).and_then(|value| value.to_str().ok());
    let new = new.map(str::to_owned);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned(), new)
}
