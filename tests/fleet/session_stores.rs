//! Sessions of browsers that all nodes serve.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, routing::get};
use futures_util::future::join_all;
use http::{
    HeaderMap, StatusCode,
    header::{COOKIE, SET_COOKIE},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_authlete::{
    AuthLayer, Authlete, TokenInfo,
    api::{Secret, TokenListRequest},
    clock::Clock,
    emulator::{Api, Fault, TokenPair},
    fleet::{Fleet, FleetSessions},
    session::{Replaced, SessionId, SessionLayer, SessionStore, SessionTokens, Sessions},
};

use crate::{
    nodes::{Bench, OK, SECOND, SECRET, UNAUTHORIZED},
    servers::{Proxy, Redis, eventually},
};

const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// A store that tells which session was begun last.
#[derive(Clone)]
struct Store {
    store: FleetSessions,
    begun: Arc<Mutex<Option<SessionId>>>,
}

impl SessionStore for Store {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        self.store.load(id).await
    }

    async fn insert(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        *self.begun.lock().unwrap() = Some(id.clone());
        self.store.insert(id, tokens).await
    }

    async fn replace(
        &self,
        id: &SessionId,
        loaded: &SessionTokens,
        new: &SessionTokens,
    ) -> Result<Replaced, BoxError> {
        self.store.replace(id, loaded, new).await
    }

    async fn remove(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        self.store.remove(id).await
    }
}

/// What a node is made of, in whatever runtime.
struct Parts {
    authlete: Authlete,
    clock: Clock,
    client: (String, String),
    store_deadline: Duration,
}

impl Parts {
    fn new(bench: &Bench) -> Self {
        let authlete = bench.authlete.authlete();
        let client =
            (bench.authlete.client_id().to_string(), bench.authlete.client_secret().to_owned());
        Self { authlete, clock: bench.clock.clone(), client, store_deadline: 3 * SECOND }
    }

    /// A renewal takes one second at most, or so much longer as a test waits for.
    fn quick(bench: &Bench) -> Self {
        let authlete = bench.authlete.client_builder().deadline(SECOND / 2).build().unwrap();
        Self { authlete, store_deadline: SECOND / 4, ..Self::new(bench) }
    }

    fn node(self, sessions: FleetSessions) -> Browsed {
        let store = Store { store: sessions, begun: Arc::default() };
        let auth = AuthLayer::builder(self.authlete.clone()).clock(self.clock.clone());
        let layer = SessionLayer::builder(self.authlete, store.clone())
            .client(self.client.0, self.client.1)
            .store_deadline(self.store_deadline)
            .clock(self.clock)
            .build()
            .unwrap();
        let sessions = layer.sessions();
        let subject = |token: TokenInfo| async move { token.subject().unwrap().to_owned() };
        let layers = ServiceBuilder::new().layer(layer).layer(auth.build().unwrap());
        Browsed { app: Router::new().route("/", get(subject)).layer(layers), sessions, store }
    }

    async fn node_at(self, url: &str) -> Browsed {
        let fleet = Fleet::redis(url).secret(SECRET).connect().await.unwrap();
        self.node(fleet.sessions())
    }
}

/// A node that serves sessions.
struct Browsed {
    app: Router,
    sessions: Sessions<Store>,
    store: Store,
}

impl Browsed {
    async fn at(bench: &Bench, redis: &Redis) -> Self {
        Parts::new(bench).node_at(redis.url()).await
    }

    async fn get(&self, cookie: &str) -> StatusCode {
        let request = Request::get("/").header(COOKIE, cookie).body(Body::empty()).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let removes = response.headers().contains_key(SET_COOKIE);
        assert_eq!(removes, response.status() == UNAUTHORIZED);
        response.status()
    }

    /// Waits for this status, until when there is no answer at all.
    async fn recovers(&self, cookie: &str, status: StatusCode) {
        eventually(async || match self.get(cookie).await {
            got if got == status => Ok(()),
            UNAVAILABLE => Err("unavailable".into()),
            other => panic!("{other}"),
        })
        .await;
    }

    async fn end(&self, cookie: &str) -> Result<(), BoxError> {
        self.sessions.end(&HeaderMap::from_iter([(COOKIE, cookie.parse()?)])).await.map(|_| ())
    }

    fn begun(&self) -> SessionId {
        self.store.begun.lock().unwrap().clone().unwrap()
    }

    /// The version of the session that was begun here.
    async fn version(&self) -> Option<String> {
        Some(self.store.load(&self.begun()).await.unwrap()?.version())
    }
}

/// Logs alice in. Her access token lives for 100 s, and is renewed 30 s before its end.
async fn begin(bench: &Bench, node: &Browsed) -> (String, TokenPair) {
    let token = bench.authlete.token().subject("alice").expires_in(100 * SECOND);
    let pair = token.issue_with_refresh().await;
    let tokens = SessionTokens::new(
        pair.access_token.as_str(),
        Some(bench.clock.now() + 100 * SECOND),
        Some(Secret::from(pair.refresh_token.as_str())),
    );
    let set = node.sessions.begin(tokens).await.unwrap();
    (set.to_str().unwrap().split(';').next().unwrap().to_owned(), pair)
}

fn renewals(bench: &Bench) -> u64 {
    bench.authlete.calls(Api::Token)
}

/// How many tokens alice has at Authlete.
async fn alive(bench: &Bench) -> i64 {
    let request = TokenListRequest::new().subject("alice");
    bench.authlete.authlete().token_list(&request).await.unwrap().total_count.unwrap()
}

#[tokio::test]
async fn all_nodes_serve_a_session_until_one_ends_it() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let nodes = [Browsed::at(&bench, &redis).await, Browsed::at(&bench, &redis).await];
    let (cookie, _) = begin(&bench, &nodes[0]).await;
    for node in &nodes {
        assert_eq!(node.get(&cookie).await, OK);
    }
    bench.clock.advance(80 * SECOND);
    assert_eq!((nodes[1].get(&cookie).await, renewals(&bench)), (OK, 1));
    assert_eq!((nodes[0].get(&cookie).await, renewals(&bench)), (OK, 1));
    nodes[1].end(&cookie).await.unwrap();
    bench.clock.advance(80 * SECOND);
    // Nothing of it is left in any process: it is neither served nor renewed.
    for node in &nodes {
        assert_eq!(node.get(&cookie).await, UNAUTHORIZED);
    }
    assert_eq!((renewals(&bench), alive(&bench).await), (1, 0));
    let left: Vec<String> = redis.cli(["KEYS", "*"]).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn tokens_are_replaced_by_compare_and_set() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let node = Browsed::at(&bench, &redis).await;
    begin(&bench, &node).await;
    let (store, id) = (&node.store, node.begun());
    let first = store.load(&id).await.unwrap().unwrap();
    let [two, three] = ["two", "three"].map(|it| SessionTokens::new(it, None, None));
    assert_eq!(store.replace(&id, &two, &three).await.unwrap(), Replaced::Conflict);
    assert_eq!(store.replace(&id, &first, &two).await.unwrap(), Replaced::Done);
    assert_eq!(store.replace(&id, &first, &three).await.unwrap(), Replaced::Conflict);
    let both = join_all([&first, &three].map(|new| store.replace(&id, &two, new))).await;
    let done = both.into_iter().filter(|it| matches!(it, Ok(Replaced::Done))).count();
    assert_eq!(done, 1);
    let stored = store.load(&id).await.unwrap().unwrap();
    let removed = store.remove(&id).await.unwrap().unwrap();
    assert_eq!(removed.access_token.expose(), stored.access_token.expose());
    assert!(store.load(&id).await.unwrap().is_none() && store.remove(&id).await.unwrap().is_none());
    assert_eq!(store.replace(&id, &removed, &two).await.unwrap(), Replaced::Conflict);
    assert!(store.load(&id).await.unwrap().is_none());
}

#[tokio::test]
async fn requests_at_all_nodes_at_once_cause_one_renewal() {
    let Some(redis) = Redis::start().await else { return };
    for age in [80, 100] {
        let bench = Bench::new().await;
        let nodes = [Browsed::at(&bench, &redis).await, Browsed::at(&bench, &redis).await];
        let (cookie, _) = begin(&bench, &nodes[0]).await;
        bench.clock.advance(age * SECOND);
        let answers = join_all((0..20).map(|number| nodes[number % 2].get(&cookie))).await;
        assert!(answers.iter().all(|status| *status == OK), "{answers:?}");
        assert_eq!((renewals(&bench), alive(&bench).await), (1, 1));
    }
}

#[tokio::test]
async fn a_node_that_dies_while_it_renews_delays_others_and_logs_nobody_out() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let node = Parts::quick(&bench).node_at(redis.url()).await;
    let (cookie, _) = begin(&bench, &node).await;
    bench.clock.advance(100 * SECOND);
    // Its call uses no refresh token up.
    bench.authlete.fault(Fault::status(503).on(Api::Token).times(1));
    let hold = bench.authlete.hold(Api::Token);
    let dying =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (parts, url, named) = (Parts::quick(&bench), redis.url().to_owned(), cookie.clone());
    dying.spawn(async move { parts.node_at(&url).await.get(&named).await });
    bench.authlete.arrived(Api::Token, 1).await;
    dying.shutdown_background();
    hold.release();
    assert_eq!(renewals(&bench), 1);
    node.recovers(&cookie, OK).await;
    assert_eq!((renewals(&bench), alive(&bench).await), (2, 1));
}

#[tokio::test]
async fn a_node_that_is_late_overwrites_nothing() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let proxy = Proxy::start(redis.port()).await;
    let late = Parts::quick(&bench).node_at(&format!("redis://127.0.0.1:{}", proxy.port())).await;
    let node = Parts::quick(&bench).node_at(redis.url()).await;
    let (cookie, _) = begin(&bench, &node).await;
    bench.clock.advance(100 * SECOND);
    // The service keeps refresh tokens, so that the response has none.
    let content = serde_json::json!({"action": "OK", "accessToken": "late"});
    bench.authlete.fault(Fault::json(content).on(Api::Token).times(1));
    let hold = bench.authlete.hold(Api::Token);
    let (status, ()) = tokio::join!(late.get(&cookie), async {
        bench.authlete.arrived(Api::Token, 1).await;
        proxy.cut();
        hold.release();
    });
    assert_eq!((status, renewals(&bench)), (UNAVAILABLE, 1));
    // Its claim ends, and its new tokens are still under way.
    node.recovers(&cookie, OK).await;
    let (renewed, version) = (renewals(&bench), node.version().await);
    assert_eq!(renewed, 2);
    proxy.heal().await;
    late.recovers(&cookie, OK).await;
    assert_eq!((node.get(&cookie).await, renewals(&bench)), (OK, 2));
    assert!(version.is_some() && node.version().await == version);
}

#[tokio::test]
async fn without_redis_sessions_are_unavailable_and_do_not_end() {
    let Some(redis) = Redis::with::<&str>([]).append_only().start().await else { return };
    let bench = Bench::new().await;
    let node = Browsed::at(&bench, &redis).await;
    let (cookie, _) = begin(&bench, &node).await;
    redis.pause();
    assert_eq!(node.get(&cookie).await, UNAVAILABLE);
    assert!(node.end(&cookie).await.is_err());
    redis.resume();
    redis.kill9();
    assert_eq!(node.get(&cookie).await, UNAVAILABLE);
    let (cookie, _) = {
        redis.restart().await;
        eventually(async || match node.get("__Host-session=unknown").await {
            UNAUTHORIZED => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
        begin(&bench, &node).await
    };
    redis.restart().await;
    node.recovers(&cookie, OK).await;
}

#[tokio::test]
async fn redis_holds_neither_tokens_nor_what_they_are_sealed_with() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let node = Browsed::at(&bench, &redis).await;
    let (cookie, pair) = begin(&bench, &node).await;
    let keys: Vec<String> = redis.cli(["KEYS", "*"]).await.unwrap();
    assert!(keys.len() == 1 && keys[0].starts_with("authlete:1:session:"), "{keys:?}");
    let left: u64 = redis.cli(["PTTL", &keys[0]]).await.unwrap();
    assert!(left > 29 * 24 * 60 * 60 * 1000, "{left}");
    let fields: Vec<Vec<u8>> = redis.cli(["HGETALL", &keys[0]]).await.unwrap();
    let (id, cookie) = (node.begun(), cookie.split('=').nth(1).unwrap());
    let secrets = [cookie, &pair.access_token, &pair.refresh_token, &id.to_base64(), "alice"];
    let secrets = secrets.map(str::as_bytes).into_iter().chain([id.digest().as_slice()]);
    for secret in secrets {
        for stored in fields.iter().map(Vec::as_slice).chain([keys[0].as_bytes()]) {
            assert!(!stored.windows(secret.len()).any(|part| part == secret));
        }
    }
}

#[tokio::test]
async fn a_secret_is_replaced_and_no_session_ends() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let node = Browsed::at(&bench, &redis).await;
    let (cookie, _) = begin(&bench, &node).await;
    let new = "another secret of more than 32 bytes";
    let both = Fleet::redis(redis.url()).secret(new).old_secret(SECRET).connect().await.unwrap();
    let only = Fleet::redis(redis.url()).secret(new).connect().await.unwrap();
    let (both, only) =
        (Parts::new(&bench).node(both.sessions()), Parts::new(&bench).node(only.sessions()));
    assert_eq!((both.get(&cookie).await, only.get(&cookie).await), (OK, UNAVAILABLE));
    // A renewal seals anew.
    bench.clock.advance(80 * SECOND);
    assert_eq!((both.get(&cookie).await, only.get(&cookie).await), (OK, OK));
}

#[tokio::test]
async fn applications_know_their_own_sessions() {
    let Some(redis) = Redis::start().await else { return };
    let bench = Bench::new().await;
    let fleet = Fleet::redis(redis.url()).secret(SECRET).connect().await.unwrap();
    let nodes =
        ["shop", "bank"].map(|name| Parts::new(&bench).node(fleet.sessions().application(name)));
    let (cookie, _) = begin(&bench, &nodes[0]).await;
    assert_eq!((nodes[0].get(&cookie).await, nodes[1].get(&cookie).await), (OK, UNAUTHORIZED));
}
