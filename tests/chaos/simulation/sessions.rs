//! Browsers with sessions, which visit several processes that share them.

use std::{collections::VecDeque, time::SystemTime};

use axum::{Router, body::Body, extract::Request};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{COOKIE, SET_COOKIE},
};
use http_body_util::BodyExt;
use rand::RngExt;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_authlete::{
    api::Secret,
    emulator::{Api, Hold},
    session::SessionTokens,
};

use super::{
    driver::{Driver, STEP},
    faults::Reluctant,
    log::SECRET,
    model::{Order, SCOPES},
    processes::{PROCESSES, State},
    settings::NEW_TOKEN,
};

/// How many sessions are known.
const KNOWN: usize = 6;

/// Time goes on if somebody waits for so many turns: another process renews a session, for which nobody
/// waits without a clock.
const TURNS: u32 = 512;

/// The sessions that were begun, of which the oldest are left alone.
#[derive(Default)]
pub(crate) struct Visitors {
    sessions: VecDeque<Session>,
    begun: usize,
}

/// A browser's session.
struct Session {
    subject: String,
    cookie: HeaderValue,
    /// Since when it is surely over.
    over: Option<Order>,
    /// Something went wrong with it, so that it may have ended, or its tokens may live on.
    doubted: bool,
}

impl Visitors {
    /// Whether somebody's session is over, with all its tokens.
    pub(super) fn are_over_for(&self, subject: &str) -> bool {
        let over = |it: &Session| it.subject == subject && it.over.is_some() && !it.doubted;
        self.sessions.iter().any(over)
    }
}

/// Requests of one session at the same time.
struct Visit {
    session: usize,
    began: Order,
    at: SystemTime,
    /// Another session that is ended with it.
    other: Option<usize>,
    ends: bool,
    alone: bool,
    /// Whether Authlete or the store fails.
    fails: bool,
    hold: Option<Hold>,
}

impl Visit {
    fn sessions(&self) -> impl Iterator<Item = usize> + use<> {
        [Some(self.session), self.other].into_iter().flatten()
    }
}

struct Answer {
    process: usize,
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    /// All that the browser sees.
    fn text(&self) -> String {
        let headers = self.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()));
        headers.chain([self.body.as_str().into()]).collect::<Vec<_>>().join(" ")
    }
}

impl Driver {
    pub(crate) async fn begin_session(&mut self) {
        self.settle().await;
        let number = self.sessions.begun;
        self.sessions.begun += 1;
        let subject = format!("s{number}");
        let life = self.time_scale().seconds(self.rng.random_range(40..120));
        let ends = self.now() + life;
        let token =
            self.environment.authlete.token().subject(&subject).scopes(SCOPES).expires_at(ends);
        let value = format!("{SECRET}-{}-s{number}", self.seed);
        let pair = token.value(value).issue_with_refresh().await;
        let refresh = Some(Secret::from(pair.refresh_token.as_str()));
        let tokens = SessionTokens::new(pair.access_token.as_str(), Some(ends), refresh);
        let process = self.rng.random_range(0..PROCESSES);
        let sessions = self.environment.processes[process].sessions.clone();
        let beginning = async move { sessions.begin(tokens).await };
        let Some(Ok(set)) = self.outcome("the begin of a session", beginning).await else {
            return self.wrong("the begin of a session", "it fails");
        };
        let cookie = set.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        let cookie = HeaderValue::from_bytes(cookie).unwrap();
        let right = |process: usize| self.environment.sites[process].clock.is_right();
        let doubted = !(0..PROCESSES).all(right);
        if self.sessions.sessions.len() == KNOWN {
            self.sessions.sessions.pop_front();
        }
        self.sessions.sessions.push_back(Session { subject, cookie, over: None, doubted });
        self.tally.sessions.begun += 1;
        self.note(format!("{process} begins session s{number} for {} s", life.as_secs()));
    }

    /// The clock of a process is wrong, by which others may take sessions over.
    pub(super) fn doubt_sessions_at(&mut self, layer: usize) {
        if layer < PROCESSES {
            self.sessions.sessions.iter_mut().for_each(|session| session.doubted = true);
        }
    }

    /// Requests of one session, with which it may be ended.
    pub(crate) async fn visit(&mut self) {
        self.settle().await;
        if self.sessions.sessions.is_empty() {
            return self.begin_session().await;
        }
        let visit = self.plan_visit();
        let requests = if visit.alone { 1 } else { self.rng.random_range(1..6) };
        let tasks: Vec<_> = (0..requests).map(|_| self.browse(visit.session)).collect();
        let turns = self.rng.random_range(0..64);
        self.give_way(turns).await;
        let ending = visit.ends.then(|| self.spawn_end(&visit));
        let turns = self.rng.random_range(0..32);
        self.give_way(turns).await;
        let mut answers = Vec::new();
        for task in tasks {
            // A tab is closed.
            if !visit.alone && self.rng.random_bool(0.1) {
                task.abort();
                continue;
            }
            answers.push(task);
        }
        self.finish_visit(visit, answers, ending).await;
    }

    fn plan_visit(&mut self) -> Visit {
        let known = self.sessions.sessions.len();
        let session = self.any_session();
        let (alone, ends) = (self.rng.random_bool(0.4), self.rng.random_bool(0.2));
        let other = (0..known).rev().find(|other| *other != session);
        let other = other.filter(|_| ends && self.rng.random_bool(0.2));
        let breaks = self.rng.random_bool(0.05);
        let fails = self.failures.now() || breaks;
        if breaks {
            let process = self.rng.random_range(0..PROCESSES);
            let state = if self.rng.random_bool(0.5) { State::Down } else { State::Deaf };
            self.environment.processes[process].way.set(state);
            self.note(format!("the store of {process} is {state:?}"));
        }
        let holds = !alone && !fails && self.rng.random_bool(0.3);
        let api = if self.rng.random_bool(0.7) { Api::Token } else { Api::TokenUpdate };
        let hold = holds.then(|| self.environment.authlete.hold(api));
        let subject = &self.sessions.sessions[session].subject;
        self.note(format!("{subject} visits: alone {alone}, ends {ends}, holds {holds}"));
        let (began, at) = (self.next(), self.now());
        Visit { session, began, at, other, ends, alone: alone && !ends, fails, hold }
    }

    /// Mostly one that goes on.
    fn any_session(&mut self) -> usize {
        let sessions = &self.sessions.sessions;
        let good = sessions.iter().rposition(|it| it.over.is_none() && !it.doubted);
        let any = self.rng.random_range(0..sessions.len());
        good.filter(|_| self.rng.random_bool(0.6)).unwrap_or(any)
    }

    fn browse(&mut self, session: usize) -> JoinHandle<Answer> {
        let process = self.rng.random_range(0..PROCESSES);
        let router = self.environment.processes[process].router.clone();
        let mut request = Request::get("/").body(Body::empty()).unwrap();
        let cookie = self.sessions.sessions[session].cookie.clone();
        request.headers_mut().insert(COOKIE, cookie);
        tokio::spawn(answer(process, router, request))
    }

    fn spawn_end(&mut self, visit: &Visit) -> JoinHandle<bool> {
        let mut headers = HeaderMap::new();
        for session in visit.sessions() {
            headers.append(COOKIE, self.sessions.sessions[session].cookie.clone());
        }
        let process = self.rng.random_range(0..PROCESSES);
        let sessions = self.environment.processes[process].sessions.clone();
        self.note(format!("it is ended at {process}"));
        tokio::spawn(async move { sessions.end(&headers).await.is_ok() })
    }

    async fn finish_visit(
        &mut self,
        mut visit: Visit,
        tasks: Vec<JoinHandle<Answer>>,
        ending: Option<JoinHandle<bool>>,
    ) {
        drop(visit.hold.take());
        let mut answers = Vec::new();
        for task in tasks {
            answers.extend(self.finished_in_time("a browser's request", task).await);
        }
        let ended = match ending {
            Some(task) => self.finished_in_time("the end of a session", task).await,
            None => None,
        };
        self.quiet().await;
        self.environment.processes.iter().for_each(|process| process.way.set(State::Good));
        for session in visit.sessions() {
            self.sessions.sessions[session].doubted |= visit.fails;
        }
        answers.iter().for_each(|answer| self.look_at(&visit, answer));
        match ended {
            Some(true) => visit.sessions().for_each(|session| self.over(session)),
            Some(false) if !visit.fails => self.wrong("a session", "it could not be ended"),
            _ => {}
        }
    }

    fn over(&mut self, session: usize) {
        let order = self.next();
        let over = &mut self.sessions.sessions[session].over;
        self.tally.sessions.ended += u64::from(over.is_none());
        over.get_or_insert(order);
    }

    fn look_at(&mut self, visit: &Visit, answer: &Answer) {
        let session = &self.sessions.sessions[visit.session];
        let (over, doubted) = (session.over.is_some_and(|it| it <= visit.began), session.doubted);
        let what = format!("{} at {}: {}", session.subject, answer.process, answer.status);
        let removed = answer.headers.contains_key(SET_COOKIE);
        let accepted = answer.status == StatusCode::OK;
        let settings = &self.environment.sites[answer.process].settings;
        let subject = if settings.by_update { "nobody" } else { &session.subject };
        let anybody = Reluctant { answered: 0, stepped: false };
        let trouble =
            visit.fails || self.failures.just_before((visit.began, visit.at), Some(anybody));
        let mut problems = Vec::new();
        if accepted && answer.body != subject {
            problems.push("it was taken for somebody else's");
        }
        let told = answer.headers.contains_key(NEW_TOKEN);
        if told || self.environment.store.shows(&answer.text()) {
            problems.push("the browser sees a token");
        }
        self.tally.sessions.at_once += u64::from(!visit.alone);
        if over {
            self.tally.sessions.after_end += 1;
            if answer.status != StatusCode::UNAUTHORIZED && (accepted || !trouble) {
                problems.push("it goes on after its end");
            }
        } else if !doubted && !trouble {
            if removed && !visit.ends {
                problems.push("it ended though nothing was wrong");
            }
            if visit.alone {
                self.tally.sessions.good += 1;
                if !accepted {
                    problems.push("it is good, and was not accepted");
                }
            }
        }
        problems.into_iter().for_each(|problem| self.wrong(&what, problem));
        if removed {
            self.over(visit.session);
        }
    }

    /// What comes of it, while time goes on.
    async fn finished_in_time<T>(&mut self, what: &str, task: JoinHandle<T>) -> Option<T> {
        let mut turns = 0;
        while self.time_scale().frozen && !task.is_finished() && turns < TURNS * 300 {
            turns += 1;
            tokio::task::yield_now().await;
            if turns.is_multiple_of(TURNS) {
                self.pass(STEP).await;
            }
        }
        self.finished(what, task).await
    }
}

async fn answer(process: usize, router: Router, request: Request) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer { process, status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}
