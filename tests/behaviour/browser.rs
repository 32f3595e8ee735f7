//! A browser with a session, and the processes that it sends requests to.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use axum::{Router, body::Body, routing::get};
use http::{HeaderMap, Request};
use tokio::sync::watch;
use tower::{BoxError, ServiceBuilder};
use tower_authlete::{
    AuthLayer, TokenInfo,
    api::{Secret, TokenListRequest},
    emulator::{Api, TokenPair},
    layer::AuthLayerBuilder,
    lifecycle::AccessTokenRotation,
    session::{
        MemoryStore, Replaced, SessionId, SessionLayer, SessionLayerBuilder, SessionStore,
        SessionTokens, Sessions,
    },
};

use crate::support::{Answer, Bench, SECOND, send};

/// The store as one process reaches it, with injectable faults. It counts calls of `replace`: the first of a
/// renewal is the claim, the second saves the new tokens.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) memory: MemoryStore,
    arrived: watch::Sender<u64>,
    /// Later ones wait.
    allowed: watch::Sender<u64>,
    /// Later ones fail,
    good: Arc<AtomicU64>,
    /// though they take effect.
    lost: Arc<AtomicBool>,
    hangs: Arc<AtomicBool>,
    /// The session that was started last.
    begun: Arc<Mutex<Option<SessionId>>>,
}

impl Store {
    fn of(memory: MemoryStore) -> Self {
        Self {
            memory,
            arrived: watch::Sender::new(0),
            allowed: watch::Sender::new(u64::MAX),
            good: Arc::new(AtomicU64::new(u64::MAX)),
            lost: Arc::default(),
            hangs: Arc::default(),
            begun: Arc::default(),
        }
    }

    /// Lets so many calls of `replace` reach the store; further ones wait.
    pub(crate) fn allow(&self, calls: u64) {
        self.allowed.send_replace(calls);
    }

    /// Waits until so many calls of `replace` have arrived.
    pub(crate) async fn arrived(&self, calls: u64) {
        let mut arrived = self.arrived.subscribe();
        let wait = arrived.wait_for(|arrived| *arrived >= calls);
        // A failing test does not hang.
        tokio::time::timeout(10 * SECOND, wait).await.expect("the call does not come").unwrap();
    }

    /// Calls of `replace` after so many fail.
    pub(crate) fn break_after(&self, calls: u64) {
        self.good.store(calls, Ordering::SeqCst);
    }

    /// Calls of `replace` after so many take effect, and fail.
    pub(crate) fn lose_after(&self, calls: u64) {
        self.lost.store(true, Ordering::SeqCst);
        self.break_after(calls);
    }

    pub(crate) fn mend(&self) {
        self.lost.store(false, Ordering::SeqCst);
        self.break_after(u64::MAX);
    }

    /// Calls get no response any more.
    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    async fn answer(&self) {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending().await
        }
    }
}

impl SessionStore for Store {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        self.answer().await;
        self.memory.load(id).await
    }

    async fn insert(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        self.answer().await;
        *self.begun.lock().unwrap() = Some(id.clone());
        self.memory.insert(id, tokens).await
    }

    async fn replace(
        &self,
        id: &SessionId,
        loaded: &SessionTokens,
        new: &SessionTokens,
    ) -> Result<Replaced, BoxError> {
        let mut number = 0;
        self.arrived.send_modify(|arrived| {
            *arrived += 1;
            number = *arrived;
        });
        let mut allowed = self.allowed.subscribe();
        allowed.wait_for(|allowed| *allowed >= number).await?;
        let fails = number > self.good.load(Ordering::SeqCst);
        if fails && !self.lost.load(Ordering::SeqCst) {
            return Err("the store is broken".into());
        }
        let replaced = self.memory.replace(id, loaded, new).await?;
        if fails { Err("the answer of the store is lost".into()) } else { Ok(replaced) }
    }

    async fn remove(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        self.answer().await;
        self.memory.remove(id).await
    }
}

/// A process that serves sessions.
pub(crate) struct Process {
    pub(crate) router: Router,
    pub(crate) store: Store,
    pub(crate) sessions: Sessions<Store>,
}

impl Process {
    pub(crate) fn new(
        bench: &Bench,
        memory: MemoryStore,
        settings: impl FnOnce(SessionLayerBuilder<Store>) -> SessionLayerBuilder<Store>,
        auth: impl FnOnce(AuthLayerBuilder) -> AuthLayerBuilder,
    ) -> Self {
        let store = Store::of(memory);
        let layer = SessionLayer::builder(bench.authlete.authlete(), store.clone())
            .client(bench.authlete.client_id().to_string(), bench.authlete.client_secret())
            .clock(bench.clock.clone());
        let layer = settings(layer).build().unwrap();
        let sessions = layer.sessions();
        let auth: AuthLayer = auth(bench.layer()).build().unwrap();
        let subject = |token: TokenInfo| async move { token.subject().unwrap().to_owned() };
        let router = Router::new()
            .route("/", get(subject).post(subject))
            .layer(ServiceBuilder::new().layer(layer).layer(auth));
        Self { router, store, sessions }
    }

    /// Another process on the same store.
    pub(crate) fn other(&self, bench: &Bench) -> Self {
        Self::new(bench, self.store.memory.clone(), |layer| layer, |auth| auth)
    }

    pub(crate) async fn send(&self, method: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers
            .iter()
            .fold(Request::builder().method(method).uri("/"), |request, (name, value)| {
                request.header(*name, *value)
            });
        send(self.router.clone(), request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get(&self, cookie: &str) -> Answer {
        self.send("GET", &[("cookie", cookie)]).await
    }

    pub(crate) async fn end(&self, cookie: &str) -> Result<String, BoxError> {
        let headers = HeaderMap::from_iter([(http::header::COOKIE, cookie.parse()?)]);
        Ok(self.sessions.end(&headers).await?.to_str()?.to_owned())
    }
}

/// A browser that is logged in as alice at a process.
pub(crate) struct Browser {
    pub(crate) process: Process,
    pub(crate) cookie: String,
    pub(crate) pair: TokenPair,
}

impl Browser {
    /// Its access token lives for 100 s, and is renewed 30 s before its end.
    pub(crate) async fn new(bench: &Bench) -> Self {
        Self::with(bench, |layer| layer).await
    }

    pub(crate) async fn with(
        bench: &Bench,
        settings: impl FnOnce(SessionLayerBuilder<Store>) -> SessionLayerBuilder<Store>,
    ) -> Self {
        Self::at(bench, Process::new(bench, MemoryStore::default(), settings, |auth| auth)).await
    }

    /// Its process rotates access tokens.
    pub(crate) async fn rotated(bench: &Bench, rotation: AccessTokenRotation) -> Self {
        let rotates = |auth: AuthLayerBuilder| auth.rotate(rotation);
        Self::at(bench, Process::new(bench, MemoryStore::default(), |layer| layer, rotates)).await
    }

    pub(crate) async fn at(bench: &Bench, process: Process) -> Self {
        let token = bench.authlete.token().subject("alice").expires_in(100 * SECOND);
        let pair = token.issue_with_refresh().await;
        let tokens = SessionTokens::new(
            pair.access_token.as_str(),
            Some(bench.clock.now() + 100 * SECOND),
            Some(Secret::from(pair.refresh_token.as_str())),
        );
        let set = process.sessions.begin(tokens).await.unwrap();
        assert!(set.is_sensitive());
        let set = set.to_str().unwrap();
        assert!(set.ends_with("; HttpOnly; Secure; SameSite=Lax; Path=/"), "{set}");
        let cookie = set.split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("__Host-"));
        Self { process, cookie, pair }
    }

    pub(crate) async fn get(&self) -> Answer {
        self.send("GET", &[]).await
    }

    pub(crate) async fn send(&self, method: &str, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[("cookie", self.cookie.as_str())], headers].concat();
        self.process.send(method, &headers).await
    }

    /// The stored tokens of its session.
    pub(crate) async fn stored(&self) -> Option<SessionTokens> {
        self.process.store.memory.load(&self.id()).await.unwrap()
    }

    /// Another process stores tokens of its session.
    pub(crate) async fn store(&self, tokens: &SessionTokens) {
        self.process.store.memory.insert(&self.id(), tokens).await.unwrap();
    }

    fn id(&self) -> SessionId {
        self.process.store.begun.lock().unwrap().clone().unwrap()
    }
}

pub(crate) fn renewals(bench: &Bench) -> u64 {
    bench.authlete.calls(Api::Token)
}

/// How many tokens alice has at Authlete.
pub(crate) async fn alive(bench: &Bench) -> i64 {
    let request = TokenListRequest::new().subject("alice");
    bench.authlete.authlete().token_list(&request).await.unwrap().total_count.unwrap()
}
