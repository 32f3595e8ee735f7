//! The example's application, and all that it receives and sends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::header::COOKIE,
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tower::BoxError;
use tower_authlete::{
    clock::Clock,
    emulator::Emulator,
    session::{Replaced, SessionId, SessionStore, SessionTokens},
};

use crate::app;

pub(crate) struct Server {
    /// Its clock stands still unless a test moves it.
    pub(crate) authlete: Arc<Emulator>,
    store: Store,
    traffic: Traffic,
    port: u16,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let clock = Clock::frozen(SystemTime::now());
        let authlete = Arc::new(app::authlete().clock(clock).start().await.unwrap());
        let (store, traffic) = (Store::default(), Traffic::default());
        let router = app::router(&authlete, store.clone()).unwrap();
        let router = router.layer(from_fn_with_state(traffic.clone(), record));
        Self { authlete, store, traffic, port: Self::serve(router).await }
    }

    /// Serves these routes on a free port, until the test ends.
    pub(crate) async fn serve(router: Router) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    pub(crate) fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    /// Heads and bodies of all responses.
    pub(crate) fn sent(&self) -> String {
        self.traffic.lock().sent.clone()
    }

    /// The last request: method and path, whether it had a cookie, and the status of its response.
    pub(crate) fn last(&self) -> (String, bool, u16) {
        self.traffic.lock().last.clone()
    }

    /// All access tokens and refresh tokens that sessions ever had.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.store.lock().tokens.clone()
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.store.lock().sessions.len()
    }

    /// As if another process that shares the store had ended them.
    pub(crate) fn forget_sessions(&self) {
        self.store.lock().sessions.clear();
    }
}

/// A store that remembers every token.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    sessions: HashMap<SessionId, SessionTokens>,
    tokens: Vec<String>,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored {
    fn put(&mut self, id: &SessionId, tokens: &SessionTokens) {
        let refresh_token = tokens.refresh_token.as_ref().expect("a refresh token");
        for token in [&tokens.access_token, refresh_token].map(|it| it.expose().to_owned()) {
            if !self.tokens.contains(&token) {
                self.tokens.push(token);
            }
        }
        self.sessions.insert(id.clone(), tokens.clone());
    }
}

impl SessionStore for Store {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        Ok(self.lock().sessions.get(id).cloned())
    }

    async fn insert(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        self.lock().put(id, tokens);
        Ok(())
    }

    async fn replace(
        &self,
        id: &SessionId,
        loaded: &SessionTokens,
        new: &SessionTokens,
    ) -> Result<Replaced, BoxError> {
        let mut stored = self.lock();
        match stored.sessions.get(id) {
            Some(tokens) if tokens.version() == loaded.version() => {
                stored.put(id, new);
                Ok(Replaced::Done)
            }
            _ => Ok(Replaced::Conflict),
        }
    }

    async fn remove(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        Ok(self.lock().sessions.remove(id))
    }
}

/// What the server received and sent.
#[derive(Clone, Default)]
struct Traffic(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
    last: (String, bool, u16),
    sent: String,
}

impl Traffic {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn record(State(traffic): State<Traffic>, request: Request, next: Next) -> Response {
    let line = format!("{} {}", request.method(), request.uri().path());
    let has_cookie = request.headers().contains_key(COOKIE);
    let (head, body) = next.run(request).await.into_parts();
    let body = body.collect().await.expect("a response has a body").to_bytes();
    let mut recorded = traffic.lock();
    recorded.last = (line, has_cookie, head.status.as_u16());
    // Not `{:?}`, which hides values.
    for (name, value) in &head.headers {
        recorded.sent += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    recorded.sent += &String::from_utf8_lossy(&body);
    Response::from_parts(head, Body::from(body))
}
