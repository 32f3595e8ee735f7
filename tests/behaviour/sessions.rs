//! Sessions of browsers: their tokens are held here, and renewed when they have to be.
#![cfg(feature = "session")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use futures_util::future::join_all;
use http::{HeaderMap, Request, StatusCode, header};
use tower::{BoxError, ServiceBuilder};
use tower_authlete::{
    TokenInfo,
    api::{Secret, TokenRequest},
    emulator::{Api, Fault, TokenPair},
    session::{
        MemoryStore, SessionId, SessionLayer, SessionLayerBuilder, SessionStore, SessionTokens,
        Sessions,
    },
};

use crate::support::{Answer, Bench, send};

const SECOND: Duration = Duration::from_secs(1);

/// A store that can be told to fail.
#[derive(Clone, Default)]
struct Store {
    memory: MemoryStore,
    broken: Arc<AtomicBool>,
    /// The session that was saved last.
    last: Arc<Mutex<Option<SessionId>>>,
}

impl Store {
    fn check(&self) -> Result<(), BoxError> {
        if self.broken.load(Ordering::SeqCst) { Err("the store is broken".into()) } else { Ok(()) }
    }
}

impl SessionStore for Store {
    async fn load(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        self.memory.load(id).await
    }

    async fn save(&self, id: &SessionId, tokens: &SessionTokens) -> Result<(), BoxError> {
        self.check()?;
        *self.last.lock().unwrap() = Some(id.clone());
        self.memory.save(id, tokens).await
    }

    async fn remove(&self, id: &SessionId) -> Result<(), BoxError> {
        self.memory.remove(id).await
    }
}

/// A browser that is logged in as alice, and what it talks to.
struct Browser {
    router: Router,
    store: Store,
    sessions: Sessions<Store>,
    cookie: String,
    pair: TokenPair,
}

impl Browser {
    /// Its access token lives for 100 s, and is renewed 30 s before its end.
    async fn new(bench: &Bench) -> Self {
        Self::with(bench, |layer| layer).await
    }

    async fn with(
        bench: &Bench,
        settings: fn(SessionLayerBuilder<Store>) -> SessionLayerBuilder<Store>,
    ) -> Self {
        let store = Store::default();
        let layer = SessionLayer::builder(bench.authlete.authlete(), store.clone())
            .client(bench.authlete.client_id().to_string(), bench.authlete.client_secret())
            .clock(bench.clock.clone());
        let layer = settings(layer).build().unwrap();
        let sessions = layer.sessions();
        let auth = bench.layer().build().unwrap();
        let subject = |token: TokenInfo| async move { token.subject().unwrap().to_owned() };
        let router = Router::new()
            .route("/", get(subject).post(subject))
            .layer(ServiceBuilder::new().layer(layer).layer(auth));
        let token = bench.authlete.token().subject("alice").expires_in(100 * SECOND);
        let pair = token.issue_with_refresh().await;
        let tokens = SessionTokens::new(
            pair.access_token.as_str(),
            Some(bench.clock.now() + 100 * SECOND),
            Some(Secret::from(pair.refresh_token.as_str())),
        );
        let set = sessions.begin(tokens).await.unwrap();
        assert!(set.is_sensitive());
        let set = set.to_str().unwrap().to_owned();
        assert!(set.ends_with("; HttpOnly; Secure; SameSite=Lax; Path=/"), "{set}");
        let cookie = set.split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("__Host-session="));
        Self { router, store, sessions, cookie, pair }
    }

    async fn get(&self) -> Answer {
        self.send("GET", &[]).await
    }

    async fn send(&self, method: &str, headers: &[(&str, &str)]) -> Answer {
        let request = Request::builder().method(method).uri("/").header("cookie", &self.cookie);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        send(self.router.clone(), request.body(Body::empty()).unwrap()).await
    }
}

fn renewals(bench: &Bench) -> u64 {
    bench.authlete.calls(Api::Token)
}

#[tokio::test]
async fn a_cookie_stands_for_the_sessions_access_token() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    let answer = browser.get().await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"));
    // Nothing of the tokens is in what the browser gets or holds.
    let all = format!("{answer:?} {}", browser.cookie);
    assert!(
        !all.contains(&browser.pair.access_token) && !all.contains(&browser.pair.refresh_token)
    );
    assert_eq!(renewals(&bench), 0);
}

#[tokio::test]
async fn without_a_cookie_or_with_a_wrong_one_there_is_no_session() {
    let bench = Bench::new().await;
    let mut browser = Browser::new(&bench).await;
    let good = browser.cookie.clone();
    browser.cookie = "a=b".into();
    assert_eq!(browser.get().await.challenge(), "Bearer");
    browser.cookie = "__Host-session=wrong".into();
    let answer = browser.get().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header(header::SET_COOKIE).ends_with("Max-Age=0"));
    // Two of them name none.
    browser.cookie = format!("{good}; __Host-session=wrong");
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn ten_requests_at_once_cause_one_renewal_and_nobody_is_logged_out() {
    for post in [false, true] {
        let bench = Bench::new().await;
        let browser = if post {
            Browser::with(&bench, |layer| layer.client_secret_post()).await
        } else {
            Browser::new(&bench).await
        };
        browser.get().await;
        bench.clock.advance(100 * SECOND);
        let answers = join_all((0..10).map(|_| browser.get())).await;
        assert!(answers.iter().all(|answer| answer.body == "alice"), "{answers:?}");
        assert_eq!(renewals(&bench), 1);
        assert_eq!(browser.get().await.status, StatusCode::OK);
        assert_eq!(renewals(&bench), 1);
    }
}

#[tokio::test]
async fn it_is_renewed_ahead_of_its_end_and_again_by_the_new_refresh_token() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(69 * SECOND);
    browser.get().await;
    assert_eq!(renewals(&bench), 0);
    bench.clock.advance(SECOND);
    for count in 1..4 {
        assert_eq!(browser.get().await.body, "alice");
        assert_eq!(renewals(&bench), count);
        bench.clock.advance(3600 * SECOND);
    }
}

#[tokio::test]
async fn an_outage_does_not_end_a_session_and_tokens_that_are_still_good_are_used() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    browser.get().await;
    bench.authlete.fault(Fault::status(503).on(Api::Token));
    bench.clock.advance(80 * SECOND);
    bench.authlete.clear_faults();
    bench.authlete.fault(Fault::status(503).on(Api::Token));
    // Near its end, but good.
    assert_eq!(browser.get().await.body, "alice");
    bench.clock.advance(20 * SECOND);
    let answer = browser.get().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header(header::SET_COOKIE), "");
    bench.authlete.clear_faults();
    assert_eq!(browser.get().await.body, "alice");
}

#[tokio::test]
async fn a_refresh_token_that_is_of_no_use_ends_the_session() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.authlete.revoke(&browser.pair.access_token);
    bench.clock.advance(100 * SECOND);
    let answer = browser.get().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header(header::SET_COOKIE).ends_with("Max-Age=0"));
    assert_eq!(renewals(&bench), 1);
    // It is gone: nobody is asked again.
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(renewals(&bench), 1);
}

#[tokio::test]
async fn another_process_that_renewed_first_ends_nothing() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(100 * SECOND);
    // The other process has used the refresh token, and has not saved the new tokens yet.
    let form = format!("grant_type=refresh_token&refresh_token={}", browser.pair.refresh_token);
    let request = TokenRequest::new()
        .parameters(form)
        .client_id(bench.authlete.client_id().to_string())
        .client_secret(bench.authlete.client_secret());
    let response = bench.authlete.authlete().token(&request).await.unwrap();
    let renewed = SessionTokens::from_response(&response).unwrap();
    let hold = bench.authlete.hold(Api::Token);
    let (answer, ()) = tokio::join!(browser.get(), async {
        // This one is told `invalid_grant`, and sees that the session was renewed.
        bench.authlete.arrived(Api::Token, 2).await;
        let id = browser.store.last.lock().unwrap().clone().unwrap();
        browser.store.save(&id, &renewed).await.unwrap();
        hold.release();
    });
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"));
    assert_eq!(renewals(&bench), 2);
}

#[tokio::test]
async fn what_cannot_be_saved_is_used_by_nobody_and_not_lost() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(100 * SECOND);
    browser.store.broken.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!((renewals(&bench), bench.introspections()), (1, 0));
    browser.store.broken.store(false, Ordering::SeqCst);
    assert_eq!(browser.get().await.body, "alice");
    assert_eq!(renewals(&bench), 1);
}

#[tokio::test]
async fn a_tab_that_is_closed_does_not_lose_the_new_refresh_token() {
    let bench = Bench::new().await;
    let browser = Arc::new(Browser::new(&bench).await);
    bench.clock.advance(100 * SECOND);
    let hold = bench.authlete.hold(Api::Token);
    let tab = tokio::spawn({
        let browser = browser.clone();
        async move { browser.get().await }
    });
    bench.authlete.arrived(Api::Token, 1).await;
    tab.abort();
    assert!(tab.await.unwrap_err().is_cancelled());
    hold.release();
    assert_eq!(browser.get().await.body, "alice");
    assert_eq!(renewals(&bench), 1);
}

#[tokio::test]
async fn requests_of_other_sites_change_nothing() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    for (headers, status) in [
        (&[("sec-fetch-site", "cross-site")][..], StatusCode::FORBIDDEN),
        (&[("origin", "https://evil.example"), ("host", "api.example")], StatusCode::FORBIDDEN),
        (&[("sec-fetch-site", "same-origin")], StatusCode::OK),
    ] {
        assert_eq!(browser.send("POST", headers).await.status, status, "{headers:?}");
        // Safe methods are let pass.
        assert_eq!(browser.send("GET", headers).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_browsers_own_authorization_is_not_used_beside_a_session() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    let other = bench.authlete.token().subject("mallory").issue().await;
    let answer = browser.send("GET", &[("authorization", &format!("Bearer {other}"))]).await;
    assert_eq!(answer.body, "alice");
}

#[tokio::test]
async fn a_session_that_is_ended_is_gone_with_its_tokens() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    let mut headers = HeaderMap::new();
    headers.insert("cookie", browser.cookie.parse().unwrap());
    let removal = browser.sessions.end(&headers).await.unwrap();
    assert!(removal.to_str().unwrap().ends_with("Max-Age=0"));
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
    assert!(!bench.authlete.revoke(&browser.pair.access_token), "it was revoked");
}

#[test]
fn a_layer_without_a_client_is_refused() {
    let authlete = tower_authlete::Authlete::builder()
        .base_url("http://127.0.0.1")
        .service_id("1")
        .service_access_token("t")
        .build()
        .unwrap();
    let error = SessionLayer::builder(authlete, MemoryStore::default()).build().unwrap_err();
    assert_eq!(error.setting(), "client");
}
