//! Sessions in a store that several processes share.
#![cfg(feature = "session")]

use std::time::Duration;

use http::{StatusCode, header};
use tower_authlete::{
    api::TokenRequest,
    emulator::{Api, Fault},
    session::SessionTokens,
};

use crate::{
    browser::{Browser, Process, alive, renewals},
    support::{Answer, Bench, SECOND},
};

/// A browser with a session of this age, and another process on the same store.
async fn session_of_age(bench: &Bench, age: Duration) -> (Browser, Process) {
    let browser = Browser::new(bench).await;
    let other = browser.process.other(bench);
    bench.clock.advance(age);
    (browser, other)
}

/// The answer to a request whose renewal brings new tokens, which are not stored yet when another process
/// ends the session and something else happens.
async fn ended_while_renewed(browser: &Browser, other: &Process, then: impl FnOnce()) -> Answer {
    browser.process.store.allow(1);
    let (answer, ()) = tokio::join!(browser.get(), async {
        browser.process.store.arrived(2).await;
        other.end(&browser.cookie).await.unwrap();
        then();
        browser.process.store.allow(u64::MAX);
    });
    answer
}

#[tokio::test]
async fn a_session_that_ends_elsewhere_while_it_is_renewed_stays_ended() {
    let bench = Bench::new().await;
    let (browser, other) = session_of_age(&bench, 80 * SECOND).await;
    let answer = ended_while_renewed(&browser, &other, || ()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header(header::SET_COOKIE).ends_with("Max-Age=0"));
    for process in [&browser.process, &other] {
        assert_eq!(process.get(&browser.cookie).await.status, StatusCode::UNAUTHORIZED);
    }
    assert!(browser.stored().await.is_none());
    assert_eq!((renewals(&bench), alive(&bench).await), (1, 0));
}

#[tokio::test]
async fn renewed_tokens_that_could_not_be_saved_do_not_bring_an_ended_session_back() {
    let bench = Bench::new().await;
    let (browser, other) = session_of_age(&bench, 80 * SECOND).await;
    browser.process.store.break_after(1);
    assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    other.end(&browser.cookie).await.unwrap();
    browser.process.store.mend();
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
    assert!(browser.stored().await.is_none());
    assert_eq!(alive(&bench).await, 0);
}

#[tokio::test]
async fn renewed_tokens_that_cannot_be_revoked_are_revoked_with_the_next_log_out() {
    let bench = Bench::new().await;
    let (browser, other) = session_of_age(&bench, 80 * SECOND).await;
    let no_revocation = || bench.authlete.fault(Fault::status(503).on(Api::TokenRevoke));
    let answer = ended_while_renewed(&browser, &other, no_revocation).await;
    assert_eq!((answer.status, alive(&bench).await), (StatusCode::UNAUTHORIZED, 1));
    bench.authlete.clear_faults();
    browser.process.end(&browser.cookie).await.unwrap();
    assert_eq!(alive(&bench).await, 0);
}

#[tokio::test]
async fn the_end_of_a_session_revokes_renewed_tokens_that_could_not_be_saved() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(80 * SECOND);
    browser.process.store.break_after(1);
    assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    browser.process.end(&browser.cookie).await.unwrap();
    assert_eq!(alive(&bench).await, 0);
    browser.process.store.mend();
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn while_one_process_renews_the_others_wait_and_use_no_refresh_token_up() {
    // While the old access token is valid, and after that.
    for age in [80, 100] {
        let bench = Bench::new().await;
        let (browser, other) = session_of_age(&bench, age * SECOND).await;
        browser.process.store.allow(1);
        let (answer, another) = tokio::join!(browser.get(), async {
            browser.process.store.arrived(2).await;
            let (another, ()) = tokio::join!(other.get(&browser.cookie), async {
                browser.process.store.allow(u64::MAX);
            });
            another
        });
        assert_eq!((answer.body.as_str(), another.body.as_str()), ("alice", "alice"));
        assert_eq!((renewals(&bench), alive(&bench).await), (1, 1));
    }
}

#[tokio::test]
async fn a_slow_renewal_elsewhere_keeps_the_session() {
    let bench = Bench::new().await;
    let (browser, other) = session_of_age(&bench, 100 * SECOND).await;
    browser.process.store.allow(1);
    let (answer, another) = tokio::join!(browser.get(), async {
        browser.process.store.arrived(2).await;
        let another = other.get(&browser.cookie).await;
        browser.process.store.allow(u64::MAX);
        another
    });
    assert_eq!(another.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(another.header(header::SET_COOKIE), "");
    assert_eq!((answer.body.as_str(), renewals(&bench)), ("alice", 1));
    assert_eq!(other.get(&browser.cookie).await.body, "alice");
}

#[tokio::test]
async fn a_renewal_of_a_process_that_stopped_is_waited_for_until_its_deadline() {
    let bench = Bench::new().await;
    let (browser, other) = session_of_age(&bench, 80 * SECOND).await;
    // It has used the refresh token, and cannot reach the store any more.
    browser.process.store.break_after(1);
    assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    // 3 s for Authlete, and twice 3 s for the store.
    bench.clock.advance(9 * SECOND - SECOND / 1000);
    let answer = other.get(&browser.cookie).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((renewals(&bench), browser.stored().await.is_some()), (1, true));
    bench.clock.advance(SECOND / 1000);
    let answer = other.get(&browser.cookie).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "its refresh token is used up");
    assert_eq!((renewals(&bench), alive(&bench).await), (2, 1));
    // If it recovers, its tokens are revoked.
    browser.process.store.mend();
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(alive(&bench).await, 0);
}

#[tokio::test]
async fn a_claim_of_a_clock_that_was_wrong_is_taken_over() {
    let bench = Bench::new().await;
    let (browser, other) = session_of_age(&bench, 3600 * SECOND).await;
    bench.authlete.fault(Fault::reset().on(Api::Token).times(1));
    assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    bench.clock.rewind(3500 * SECOND);
    assert_ne!(other.get(&browser.cookie).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(renewals(&bench), 2);
}

#[tokio::test]
async fn a_refused_call_delays_no_other_process() {
    let bench = Bench::new().await;
    let (browser, other) = session_of_age(&bench, 80 * SECOND).await;
    bench.authlete.fault(Fault::status(503).on(Api::Token));
    for process in [&browser.process, &other] {
        assert_eq!(process.get(&browser.cookie).await.body, "alice");
    }
    bench.authlete.clear_faults();
    assert_eq!(other.get(&browser.cookie).await.body, "alice");
    assert_eq!((renewals(&bench), alive(&bench).await), (3, 1));
}

#[tokio::test]
async fn tokens_that_another_process_stored_meanwhile_are_used() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(100 * SECOND);
    // The refresh token is used by a program of the user's own, which claims nothing.
    let form = format!("grant_type=refresh_token&refresh_token={}", browser.pair.refresh_token);
    let request = TokenRequest::new()
        .parameters(form)
        .client_id(bench.authlete.client_id().to_string())
        .client_secret(bench.authlete.client_secret());
    let response = bench.authlete.authlete().token(&request).await.unwrap();
    let renewed = SessionTokens::from_response(&response).unwrap();
    let hold = bench.authlete.hold(Api::Token);
    let (answer, ()) = tokio::join!(browser.get(), async {
        // This process gets `invalid_grant`, and finds other tokens in the session.
        bench.authlete.arrived(Api::Token, 2).await;
        browser.store(&renewed).await;
        hold.release();
    });
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"));
    assert_eq!(renewals(&bench), 2);
}

#[tokio::test]
async fn tokens_of_a_refresh_token_that_is_kept_are_not_revoked_by_a_late_renewal() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(80 * SECOND);
    // The service keeps refresh tokens, so that the response has none.
    let content = serde_json::json!({"action": "OK", "accessToken": "another"});
    bench.authlete.fault(Fault::json(content).on(Api::Token).times(1));
    browser.process.store.allow(1);
    let (answer, ()) = tokio::join!(browser.get(), async {
        browser.process.store.arrived(2).await;
        let stored = browser.stored().await.unwrap();
        let access = browser.pair.access_token.as_str();
        browser.store(&SessionTokens::new(access, None, stored.refresh_token)).await;
        browser.process.store.allow(u64::MAX);
    });
    assert_eq!((answer.body.as_str(), alive(&bench).await), ("alice", 1));
}
