//! Sessions around a layer that gives their access tokens new values.
#![cfg(feature = "session")]

use futures_util::future::join_all;
use http::StatusCode;
use tower_authlete::emulator::Api;

use crate::{
    browser::{Browser, alive, renewals},
    support::{Answer, Bench, NEW, SECOND, rotation},
};

/// A browser whose next request rotates its token.
async fn due(bench: &Bench) -> Browser {
    let browser = Browser::rotated(bench, rotation()).await;
    assert_eq!(browser.get().await.body, "alice");
    bench.clock.advance(20 * SECOND);
    browser
}

/// Its session works, and nothing of its tokens is in the answer.
async fn assert_kept(answer: &Answer, browser: &Browser) {
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"), "{answer:?}");
    let stored = browser.stored().await.unwrap();
    let shown = format!("{answer:?}");
    assert!(!shown.contains(stored.access_token.expose()), "{shown}");
    assert!(answer.headers.get(NEW).is_none() && !shown.contains("no-store"), "{shown}");
}

#[tokio::test]
async fn the_session_gets_the_new_value_and_the_browser_does_not() {
    let bench = Bench::new().await;
    let browser = due(&bench).await;
    let before = browser.stored().await.unwrap();
    for count in 1..4 {
        assert_kept(&browser.get().await, &browser).await;
        assert_eq!(bench.updates(), count);
        assert_kept(&browser.get().await, &browser).await;
        bench.clock.advance(20 * SECOND);
    }
    let after = browser.stored().await.unwrap();
    assert_ne!(after.access_token.expose(), before.access_token.expose());
    assert_eq!(after.expires_at, before.expires_at);
    // It is renewed when its time has come, by the same refresh token.
    assert_kept(&browser.get().await, &browser).await;
    assert_eq!((renewals(&bench), alive(&bench).await), (1, 1));
    assert_ne!(browser.stored().await.unwrap().expires_at, before.expires_at);
}

#[tokio::test]
async fn a_client_without_a_session_gets_the_new_value() {
    let bench = Bench::new().await;
    let browser = due(&bench).await;
    let token = bench.authlete.token().subject("bob").issue().await;
    let bearer = format!("Bearer {token}");
    let own = [("authorization", bearer.as_str())];
    assert_eq!(browser.process.send("GET", &own).await.body, "bob");
    bench.clock.advance(20 * SECOND);
    // Beside a session, the browser's own credentials are not used, and their token is left alone.
    assert_kept(&browser.send("GET", &own).await, &browser).await;
    assert_eq!(bench.updates(), 1);
    let answer = browser.process.send("GET", &own).await;
    assert_eq!(answer.body, "bob");
    assert!(!answer.headers[NEW].is_empty());
}

#[tokio::test]
async fn concurrent_requests_cause_one_rotation_that_is_saved_once() {
    let bench = Bench::new().await;
    let browser = Browser::rotated(&bench, rotation().overlap(10 * SECOND)).await;
    browser.get().await;
    bench.clock.advance(20 * SECOND);
    for answer in join_all((0..20).map(|_| browser.get())).await {
        assert_kept(&answer, &browser).await;
    }
    assert_eq!(bench.updates(), 1);
    browser.process.store.arrived(1).await;
    // The old value has no overlap any more.
    bench.clock.advance(15 * SECOND);
    assert_kept(&browser.get().await, &browser).await;
}

#[tokio::test]
async fn nobody_presents_the_old_value_while_the_new_one_is_saved() {
    let bench = Bench::new().await;
    let browser = due(&bench).await;
    browser.process.store.allow(0);
    let (first, second) = tokio::join!(browser.get(), async {
        browser.process.store.arrived(1).await;
        let (second, ()) = tokio::join!(browser.get(), async {
            tokio::task::yield_now().await;
            browser.process.store.allow(u64::MAX);
        });
        second
    });
    assert_kept(&first, &browser).await;
    assert_kept(&second, &browser).await;
}

#[tokio::test]
async fn a_new_value_that_cannot_be_saved_is_not_lost() {
    let bench = Bench::new().await;
    let browser = due(&bench).await;
    browser.process.store.break_after(0);
    // It has been answered by the inner service.
    assert_eq!(browser.get().await.body, "alice");
    assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    browser.process.store.mend();
    assert_kept(&browser.get().await, &browser).await;
    assert_eq!((bench.updates(), renewals(&bench), alive(&bench).await), (1, 0, 1));
}

#[tokio::test]
async fn a_client_that_disconnects_does_not_lose_the_new_value() {
    let bench = Bench::new().await;
    let browser = due(&bench).await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let tab = tokio::spawn({
        let (router, cookie) = (browser.process.router.clone(), browser.cookie.clone());
        async move {
            let request = http::Request::get("/").header("cookie", cookie);
            crate::support::send(router, request.body(axum::body::Body::empty()).unwrap()).await
        }
    });
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    tab.abort();
    assert!(tab.await.unwrap_err().is_cancelled());
    hold.release();
    browser.process.store.arrived(1).await;
    assert_kept(&browser.get().await, &browser).await;
    assert_eq!(bench.updates(), 1);
}

#[tokio::test]
async fn a_session_that_ended_meanwhile_stays_ended_and_its_new_value_too() {
    // Sessions without a refresh token are ended by the access token, whose old value is gone by then.
    for refresh in [true, false] {
        let bench = Bench::new().await;
        let browser = due(&bench).await;
        let stored = browser.stored().await.unwrap();
        let refresh_token = stored.refresh_token.clone().filter(|_| refresh);
        let tokens = tower_authlete::session::SessionTokens::new(
            &stored.access_token,
            stored.expires_at,
            refresh_token,
        );
        browser.store(&tokens).await;
        let other = browser.process.other(&bench);
        browser.process.store.allow(0);
        let (answer, ()) = tokio::join!(browser.get(), async {
            browser.process.store.arrived(1).await;
            other.end(&browser.cookie).await.unwrap();
            browser.process.store.allow(u64::MAX);
        });
        assert_eq!(answer.body, "alice", "it was answered before");
        assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
        assert!(browser.stored().await.is_none());
        assert_eq!(alive(&bench).await, 0, "with a refresh token: {refresh}");
    }
}

#[tokio::test]
async fn a_log_out_revokes_a_new_value_that_is_not_saved() {
    let bench = Bench::new().await;
    let browser = due(&bench).await;
    browser.process.store.break_after(0);
    assert_eq!(browser.get().await.body, "alice");
    browser.process.end(&browser.cookie).await.unwrap();
    browser.process.store.mend();
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(alive(&bench).await, 0);
}

#[tokio::test]
async fn a_renewal_elsewhere_and_a_rotation_leave_the_session_with_valid_tokens() {
    let bench = Bench::new().await;
    let browser = Browser::rotated(&bench, rotation()).await;
    let other = browser.process.other(&bench);
    browser.get().await;
    bench.clock.advance(69 * SECOND);
    browser.process.store.allow(0);
    other.store.allow(1);
    let (answer, renewed) = tokio::join!(browser.get(), async {
        // The new value is not saved yet when the other process claims the session,
        browser.process.store.arrived(1).await;
        bench.clock.advance(SECOND);
        tokio::join!(other.get(&browser.cookie), async {
            other.store.arrived(2).await;
            // and is saved before the renewed tokens are.
            browser.process.store.allow(u64::MAX);
            browser.process.store.arrived(2).await;
            other.store.allow(u64::MAX);
        })
        .0
    });
    assert_eq!((answer.body.as_str(), renewed.body.as_str()), ("alice", "alice"));
    for process in [&browser.process, &other] {
        assert_eq!(process.get(&browser.cookie).await.body, "alice");
    }
    assert_eq!((bench.updates(), renewals(&bench), alive(&bench).await), (1, 1, 1));
}
