//! Requests of clients, authenticated and not, to the endpoints beside a layer.

use std::time::{Duration, Instant, SystemTime};

use axum::{Router, body::Body, extract::Request};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::StatusCode;
use http_body_util::BodyExt;
use rand::RngExt;
use serde_json::Value;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_authlete::{
    AuthHandle, Authlete,
    api::TokenAction,
    emulator::{Api, Hold},
    endpoint::{Decision, Limits, RevocationEndpoint, TokenEndpoint},
};

use super::{
    changes::{New, whole_millis},
    driver::Driver,
    environment,
    holders::Bound,
    model::{Pair, SCOPES},
    time_scale::TimeScale,
};

/// How many requests an endpoint asks Authlete about at a time, and how many wait.
pub(crate) const SHARE: usize = 2;
const WAITING: usize = 4;

/// For so long the cache surely keeps what was put there just before: it frees its memory by a clock of
/// its own.
const KEPT: Duration = Duration::from_secs(5);

/// Requests of unauthenticated clients whose responses were not checked yet.
pub(crate) struct Flood {
    /// Answers of Authlete are held back until the requests of others are answered.
    pub(super) hold: Option<Hold>,
    pub(super) tasks: Vec<JoinHandle<(StatusCode, Value)>>,
}

pub(super) fn endpoints(authlete: &Authlete, handle: &AuthHandle, time_scale: TimeScale) -> Router {
    let limits =
        Limits::new().max_in_flight(SHARE).max_waiting(WAITING).deadline(time_scale.deadline * 2);
    let token = TokenEndpoint::builder(authlete.clone(), handle).limits(limits);
    let token = token.decide(|request| async move {
        assert_eq!(request.action, TokenAction::Password);
        Decision::issue(request.username.unwrap())
    });
    let revoke = RevocationEndpoint::builder(authlete.clone(), handle).limits(limits);
    Router::new()
        .route_service("/token", token.build().unwrap())
        .route_service("/revoke", revoke.build().unwrap())
}

impl Driver {
    fn post(
        &self,
        layer: usize,
        path: &str,
        form: String,
        credentials: Option<String>,
    ) -> impl Future<Output = (StatusCode, Value)> + use<> {
        let router = self.environment.sites[layer].endpoints.clone();
        let request =
            Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        let request = match credentials {
            Some(pair) => {
                let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
                request.header("authorization", basic)
            }
            None => request,
        };
        let request = request.body(Body::from(form)).unwrap();
        async move {
            let response = router.oneshot(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice(&body).unwrap_or_default())
        }
    }

    fn client(&self) -> String {
        let authlete = &self.environment.authlete;
        format!("{}:{}", authlete.client_id(), authlete.client_secret())
    }

    /// A valid request of the client.
    async fn ask(&mut self, layer: usize, path: &str, form: String) -> Option<Value> {
        let began = self.next();
        let asking = self.post(layer, path, form, Some(self.client()));
        let (status, body) = self.outcome(path, asking).await?;
        let fault = self.failures.during(began, self.next());
        match status {
            StatusCode::OK => return Some(body),
            _ if fault => {}
            status => self.wrong(path, &format!("{status} though nothing was wrong: {body}")),
        }
        None
    }

    /// A layer's token endpoint issues a token, which the layer knows at once.
    pub(crate) async fn issue_here(&mut self) {
        let layer = self.any_layer();
        // The layer that issued the token knows its subject.
        if self.environment.sites[layer].settings.by_update {
            return self.issue().await;
        }
        let (number, has) = (self.tokens.end(), self.any_scopes());
        let subject = format!("u{number}");
        let names = SCOPES.iter().zip(has).filter(|(_, has)| *has);
        let names: Vec<_> = names.map(|(name, _)| *name).collect();
        let mut form = format!("grant_type=password&username={subject}&password=x");
        if !names.is_empty() {
            form += &format!("&scope={}", names.join("+"));
        }
        let begin = self.now();
        if let Some(body) = self.ask(layer, "/token", form).await {
            self.issued(&body, begin, (subject, has, layer));
            self.note(format!("{layer} issues {number} with {has:?}"));
        }
    }

    /// A pair of tokens for somebody, with these scopes, by this layer.
    fn issued(&mut self, body: &Value, begin: SystemTime, grant: (String, [bool; 2], usize)) {
        let (subject, granted, layer) = grant;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (value, refresh) = (text("access_token"), text("refresh_token"));
        self.log.look_for(value.clone());
        self.log.look_for(refresh.clone());
        let life = self.time_scale().seconds(environment::LIFE);
        let lives = whole_millis(begin + life)..self.now() + life;
        let pair = Some(Pair { refresh, layer, granted });
        let number = self.tokens.end();
        self.keep(New { value, subject, bound: Bound::Nobody, has: granted, pair }, lives);
        self.tokens[number].seen[layer] = Some(self.now());
    }

    /// A client uses a refresh token, at the endpoint that issued it.
    pub(crate) async fn refresh_here(&mut self) {
        self.settle().await;
        let token = self.any_token();
        let old = &self.tokens[token];
        let Some(pair) = old.pair.clone().filter(|_| old.is_current()) else { return };
        let form = format!("grant_type=refresh_token&refresh_token={}", pair.refresh);
        let subject = old.subject.clone();
        self.maybe_ended(token);
        let begin = self.now();
        let Some(body) = self.ask(pair.layer, "/token", form).await else { return };
        let (order, now) = (self.next(), self.now());
        self.ended(token, order, now, "a refresh");
        self.tokens[token].learnt[pair.layer].push(order);
        let next = self.tokens.end();
        self.issued(&body, begin, (subject, pair.granted, pair.layer));
        self.note(format!("{token} is refreshed at {} and becomes {next}", pair.layer));
    }

    /// A client revokes its token.
    pub(crate) async fn revoke_by_endpoint(&mut self) {
        let (token, layer) = (self.any_token(), self.any_layer());
        let line = self.begin_revocation(token, layer);
        let form = format!("token={}", self.tokens[token].value);
        let ok = self.ask(layer, "/revoke", form).await.is_some();
        // Of further values, only the newest is known there, and only for a while.
        if ok {
            self.revoked(vec![line[0]], layer, ok);
        }
    }

    /// Many requests of unauthenticated clients, and a few of others.
    pub(crate) async fn flood(&mut self) {
        self.settle().await;
        let (mut token, mut layer) = (self.any_token(), self.any_layer());
        let (mut path, mut api) = ("/revoke", Api::Revocation);
        if self.rng.random_bool(0.5) {
            (path, api) = ("/token", Api::Token);
            // Mostly about a refresh token that was issued there.
            let pairs = self.tokens.in_use().rev();
            let mut pairs = pairs.filter_map(|it| Some((it, self.tokens[it].pair.as_ref()?.layer)));
            (token, layer) = pairs.next().unwrap_or((token, layer));
        }
        let known = self.is_known(token, layer).await;
        if !self.tokens.contains(token) {
            return;
        }
        let hold = self.rng.random_bool(0.5).then(|| self.environment.authlete.hold(api));
        let requests = self.rng.random_range(10..40);
        let tasks = (0..requests).map(|_| self.strangers_request(token, layer, path));
        let tasks = tasks.collect::<Vec<_>>();
        self.flood = Some(Flood { hold, tasks });
        self.note(format!("{requests} strangers at {path} of {layer}, about {token}"));
        let turns = self.rng.random_range(0..64);
        self.give_way(turns).await;
        for _ in 0..3 {
            let other = self.any_token();
            let layer = if self.rng.random_bool(0.7) { layer } else { self.any_layer() };
            self.request(Some(other).filter(|other| *other != token), layer);
        }
        self.holders_request(token, layer, None);
        if known.is_none() && self.rng.random_bool(0.3) {
            self.revoke_at(token, layer).await;
        }
        self.settle().await;
        if known.is_some_and(|since| since.elapsed() < KEPT) {
            self.tally.known_in_floods += 1;
            if self.probe(token, layer).await != Some(0) {
                self.wrong(&format!("token {token}"), "strangers had it forgotten");
            }
        }
    }

    fn strangers_request(
        &mut self,
        token: usize,
        layer: usize,
        path: &str,
    ) -> JoinHandle<(StatusCode, Value)> {
        let Self { tokens, rng, .. } = self;
        let token = &tokens[token];
        let refresh = token.pair.as_ref().map_or("none", |pair| &pair.refresh);
        let form = match path {
            "/token" => format!("grant_type=refresh_token&refresh_token={refresh}"),
            _ if rng.random_bool(0.3) => format!("token={refresh}"),
            _ => format!("token={}", token.value),
        };
        let credentials = match rng.random_range(0..3) {
            0 => None,
            1 => Some("mallory:x".to_owned()),
            _ => Some(format!("{}:x", self.environment.authlete.client_id())),
        };
        tokio::spawn(self.post(layer, path, form, credentials))
    }

    /// Waits for the responses to unauthenticated clients, if any are pending.
    pub(super) async fn end_flood(&mut self) {
        let Some(Flood { hold, tasks }) = self.flood.take() else { return };
        drop(hold);
        for task in tasks {
            let Some((status, _)) = self.finished("a stranger's request", task).await else {
                continue;
            };
            let full = status == StatusCode::SERVICE_UNAVAILABLE;
            self.tally.strangers += 1;
            self.tally.strangers_turned_away += u64::from(full);
            if !full && status != StatusCode::BAD_REQUEST && status != StatusCode::UNAUTHORIZED {
                self.wrong("a stranger's request", &format!("it got {status}"));
            }
        }
    }

    /// Whether a layer has cached a token, so that its use makes no call, and since when.
    async fn is_known(&mut self, token: usize, layer: usize) -> Option<Instant> {
        let could = self.environment.sites[layer].settings.age > 0 && self.time_scale().frozen;
        if !could || self.failures.now() {
            return None;
        }
        self.environment.sites[layer].handle.forget(&self.tokens[token].value);
        self.forgotten(token, layer);
        let since = Instant::now();
        self.probe(token, layer).await?;
        (self.probe(token, layer).await == Some(0)).then_some(since)
    }

    /// How many calls the use of a token causes, if it is accepted.
    async fn probe(&mut self, token: usize, layer: usize) -> Option<usize> {
        let (accepted, begun) = (self.tally.accepted, self.environment.sites[layer].calls.begun());
        self.holders_request(token, layer, None);
        self.settle().await;
        let calls = self.environment.sites[layer].calls.begun() - begun;
        (self.tally.accepted > accepted).then_some(calls)
    }
}
