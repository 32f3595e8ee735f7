//! Browser sessions: tokens are stored on the server, and renewed before they expire.
#![cfg(feature = "session")]

use std::{sync::Arc, time::Duration};

use futures_util::{future::join_all, poll};
use http::{StatusCode, header};
use tower_authlete::{
    api::{IntrospectionAction, IntrospectionRequest, Secret},
    emulator::{Api, Fault},
    session::{MemoryStore, SessionLayer, SessionTokens},
};

use crate::{
    browser::{Browser, Process, alive, renewals},
    support::{Bench, SECOND, wrong_settings},
};

#[tokio::test]
async fn a_cookie_stands_for_the_sessions_access_token() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    let answer = browser.get().await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "alice"));
    // The browser gets no token.
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
    // Two cookies name no session.
    browser.cookie = format!("{good}; __Host-session=wrong");
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn concurrent_requests_cause_one_renewal_and_keep_the_session() {
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
async fn a_session_is_renewed_ahead_of_the_end_of_its_token_and_again_by_the_new_refresh_token() {
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
    // About to expire, but valid.
    assert_eq!(browser.get().await.body, "alice");
    bench.clock.advance(20 * SECOND);
    let answer = browser.get().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header(header::SET_COOKIE), "");
    bench.authlete.clear_faults();
    assert_eq!(browser.get().await.body, "alice");
}

#[tokio::test]
async fn a_refused_refresh_token_removes_the_session() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.authlete.revoke(&browser.pair.access_token);
    bench.clock.advance(100 * SECOND);
    let answer = browser.get().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header(header::SET_COOKIE).ends_with("Max-Age=0"));
    assert_eq!(renewals(&bench), 1);
    // The session is removed, and no further call is made.
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(renewals(&bench), 1);
}

#[tokio::test]
async fn renewed_tokens_that_cannot_be_saved_are_not_used_and_not_lost() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(100 * SECOND);
    // The claim is the last thing that is stored.
    browser.process.store.break_after(1);
    for _ in 0..3 {
        assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!((renewals(&bench), bench.introspections()), (1, 0));
    browser.process.store.mend();
    assert_eq!(browser.get().await.body, "alice");
    assert_eq!((renewals(&bench), alive(&bench).await), (1, 1));
}

#[tokio::test]
async fn a_store_that_cannot_save_uses_no_refresh_token() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    browser.process.store.break_after(0);
    bench.clock.advance(80 * SECOND);
    assert_eq!(browser.get().await.body, "alice", "near its end, but good");
    bench.clock.advance(20 * SECOND);
    assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(renewals(&bench), 0);
    browser.process.store.mend();
    assert_eq!(browser.get().await.body, "alice");
}

#[tokio::test]
async fn tokens_that_were_saved_though_the_store_failed_are_kept() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(100 * SECOND);
    browser.process.store.lose_after(1);
    assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    browser.process.store.mend();
    assert_eq!(browser.get().await.body, "alice");
    assert_eq!((renewals(&bench), alive(&bench).await), (1, 1));
}

#[tokio::test]
async fn a_store_that_does_not_respond_is_waited_for_until_the_deadline() {
    let bench = Bench::new().await;
    let deadline = Duration::from_millis(20);
    let browser = Browser::with(&bench, |layer| layer.store_deadline(deadline)).await;
    browser.process.store.hang();
    let answer = browser.get().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header(header::RETRY_AFTER), "1");
    assert!(browser.process.end(&browser.cookie).await.is_err());
    let tokens = SessionTokens::new("token", None, None);
    assert!(browser.process.sessions.begin(tokens).await.is_err());
}

#[tokio::test]
async fn a_missing_response_counts_as_a_renewal() {
    let nothing = serde_json::json!({ "action": "OK" });
    for (fault, used_up) in [
        (Fault::reset(), true),
        (Fault::truncated(), true),
        (Fault::status(500), false),
        (Fault::json(nothing), false),
    ] {
        let bench = Bench::new().await;
        let browser = Browser::new(&bench).await;
        // The inner layer has cached the old access token, which is valid for 20 s more.
        assert_eq!(browser.get().await.body, "alice");
        bench.clock.advance(80 * SECOND);
        bench.authlete.fault(fault.clone().on(Api::Token).times(1));
        assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE, "{fault:?}");
        // Using the refresh token again shows whether it was used.
        let answer = browser.get().await;
        if used_up {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{fault:?}");
            assert!(answer.header(header::SET_COOKIE).ends_with("Max-Age=0"));
        } else {
            assert_eq!(answer.body, "alice", "{fault:?}");
        }
        assert_eq!(browser.stored().await.is_none(), used_up);
        assert_eq!(renewals(&bench), 2);
    }
}

#[tokio::test]
async fn while_a_response_is_missing_the_old_access_token_is_not_used() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    assert_eq!(browser.get().await.body, "alice");
    bench.clock.advance(80 * SECOND);
    bench.authlete.fault(Fault::reset().on(Api::Token).times(1));
    assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    bench.authlete.fault(Fault::status(503).on(Api::Token));
    // The refusal of the second call says nothing about the first one.
    for _ in 0..2 {
        assert_eq!(browser.get().await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn a_refused_refresh_token_keeps_a_valid_access_token() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(80 * SECOND);
    let content = r#"{"error":"invalid_grant"}"#;
    let refusal = serde_json::json!({"action": "BAD_REQUEST", "responseContent": content});
    bench.authlete.fault(Fault::json(refusal).on(Api::Token));
    for _ in 0..3 {
        assert_eq!(browser.get().await.body, "alice");
    }
    assert_eq!(renewals(&bench), 1, "it is not asked for again");
    bench.clock.advance(20 * SECOND);
    let answer = browser.get().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header(header::SET_COOKIE).ends_with("Max-Age=0"));
    assert!(browser.stored().await.is_none());
}

#[tokio::test]
async fn a_client_that_disconnects_does_not_lose_the_new_refresh_token() {
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
        // Safe methods pass.
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
    let removal = browser.process.end(&browser.cookie).await.unwrap();
    assert!(removal.ends_with("Max-Age=0"));
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
    assert!(!bench.authlete.revoke(&browser.pair.access_token), "it was revoked");
}

#[tokio::test]
async fn every_session_that_the_cookies_name_is_ended() {
    let bench = Bench::new().await;
    let one = Browser::new(&bench).await;
    let Browser { process, cookie: first, .. } = one;
    let two = Browser::at(&bench, process).await;
    assert_eq!(alive(&bench).await, 2);
    let cookies = format!("{first}; a=b; __Host-session=other; {}; {first}", two.cookie);
    assert!(two.process.end(&cookies).await.unwrap().ends_with("Max-Age=0"));
    assert_eq!(alive(&bench).await, 0);
    for cookie in [&first, &two.cookie] {
        assert_eq!(two.process.get(cookie).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_cookie_header_with_too_many_sessions_is_an_error() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    let many = |others: usize| {
        let others = (0..others).map(|number| format!("; __Host-session={number}"));
        format!("{}{}", browser.cookie, others.collect::<String>())
    };
    assert!(browser.process.end(&many(16)).await.is_err());
    assert!(browser.process.end(&many(15)).await.is_ok());
    assert_eq!(alive(&bench).await, 0);
}

#[tokio::test]
async fn a_session_that_cannot_be_ended_does_not_prevent_the_end_of_another() {
    let bench = Bench::new().await;
    let Browser { process, cookie: first, .. } = Browser::new(&bench).await;
    let two = Browser::at(&bench, process).await;
    bench.authlete.fault(Fault::status(503).on(Api::TokenRevoke).times(1));
    let cookies = format!("{first}; {}", two.cookie);
    assert!(two.process.end(&cookies).await.is_err());
    for cookie in [&first, &two.cookie] {
        assert_eq!(two.process.get(cookie).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(alive(&bench).await, 1);
    assert!(two.process.end(&cookies).await.is_ok());
    assert_eq!(alive(&bench).await, 0);
}

#[tokio::test]
async fn applications_on_one_host_have_cookies_of_their_own() {
    let bench = Bench::new().await;
    let app =
        |name| Process::new(&bench, MemoryStore::default(), |it| it.cookie(name), |auth| auth);
    let one = Browser::at(&bench, app("__Host-one")).await;
    let two = Browser::at(&bench, app("__Host-two")).await;
    assert!(one.cookie.starts_with("__Host-one=") && two.cookie.starts_with("__Host-two="));
    let both = format!("{}; {}", one.cookie, two.cookie);
    for process in [&one.process, &two.process] {
        assert_eq!(process.get(&both).await.body, "alice");
    }
    let removal = one.process.end(&both).await.unwrap();
    assert!(removal.starts_with("__Host-one=;"), "{removal}");
    let answer = one.process.get(&both).await;
    assert!(answer.header(header::SET_COOKIE).starts_with("__Host-one=;"), "{answer:?}");
    assert_eq!(two.process.get(&both).await.body, "alice");
}

#[tokio::test]
async fn websocket_handshakes_of_other_origins_are_refused() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("host", "app.example")];
    let (ok, forbidden) = (StatusCode::OK, StatusCode::FORBIDDEN);
    for (more, status) in [
        (&[("origin", "https://app.example")][..], ok),
        (&[("origin", "https://blog.app.example")], forbidden),
        (&[("origin", "https://evil.example")], forbidden),
        (&[("origin", "https://app.example:8443")], forbidden),
        (&[("origin", "null")], forbidden),
        (&[("origin", "https://app.example"), ("origin", "https://evil.example")], forbidden),
        (&[("sec-fetch-site", "same-origin")], ok),
        (&[("sec-fetch-site", "same-site"), ("origin", "https://app.example")], forbidden),
        // Not a browser.
        (&[], ok),
    ] {
        let answer = browser.send("GET", &[&upgrade[..], more].concat()).await;
        assert_eq!(answer.status, status, "{more:?}");
        // Without the cookie, the layer of sessions ignores the request.
        let answer = browser.process.send("GET", &[&upgrade[..], more].concat()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{more:?}");
        // Other requests of safe methods pass.
        let answer = browser.send("GET", &[&[("host", "app.example")], more].concat()).await;
        assert_eq!(answer.status, ok, "{more:?}");
    }
    // Over HTTP/2 a handshake is a CONNECT (RFC 8441 §5).
    let foreign = [("host", "app.example"), ("origin", "https://blog.app.example")];
    assert_eq!(browser.send("CONNECT", &foreign).await.status, forbidden);
}

#[test]
fn a_layer_with_wrong_settings_is_refused() {
    let authlete = tower_authlete::Authlete::builder()
        .base_url("http://127.0.0.1")
        .service_id("1")
        .service_access_token("t")
        .build()
        .unwrap();
    let builder = || SessionLayer::builder(authlete.clone(), MemoryStore::default());
    let client = || builder().client("1", Secret::from("s"));
    for (settings, setting) in [
        (builder(), "client"),
        (builder().client("1", ""), "client"),
        (client().cookie("session"), "cookie"),
        (client().cookie("__Host-"), "cookie"),
        (client().store_deadline(Duration::ZERO), "store_deadline"),
        (client().store_deadline(Duration::MAX), "store_deadline"),
    ] {
        assert_eq!(wrong_settings(&settings.build().unwrap_err()), [setting]);
    }
    assert!(client().cookie("__Host-app").build().is_ok());
}

#[tokio::test]
async fn a_session_whose_revocation_failed_can_be_ended_again() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.authlete.fault(Fault::status(503).on(Api::TokenRevoke));
    for _ in 0..2 {
        let ended = browser.process.end(&browser.cookie).await;
        assert!(ended.is_err(), "its tokens are not revoked yet");
    }
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
    bench.authlete.clear_faults();
    assert!(browser.process.end(&browser.cookie).await.is_ok());
    assert!(!bench.authlete.revoke(&browser.pair.access_token), "its token lives on");
}

#[tokio::test]
async fn the_end_of_a_session_is_finished_though_its_caller_goes_away() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    assert!(poll!(Box::pin(browser.process.end(&browser.cookie))).is_pending());
    bench.authlete.arrived(Api::TokenRevoke, 1).await;
    let request = IntrospectionRequest::new().token(browser.pair.access_token.as_str());
    let told = bench.authlete.authlete().introspection(&request).await.unwrap();
    assert_eq!(told.action, IntrospectionAction::Unauthorized);
}

#[tokio::test]
async fn a_session_that_is_ended_while_it_is_renewed_stays_ended() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    assert_eq!(browser.get().await.status, StatusCode::OK);
    bench.clock.advance(80 * SECOND);
    let hold = bench.authlete.hold(Api::Token);
    let renews = async {
        browser.get().await;
    };
    let ends = async {
        bench.authlete.arrived(Api::Token, 1).await;
        let (ended, ()) = tokio::join!(browser.process.end(&browser.cookie), async {
            hold.release();
        });
        ended.unwrap();
    };
    tokio::join!(renews, ends);
    assert_eq!(browser.get().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_renewal_that_is_not_answered_in_time_ends_the_session_with_a_challenge() {
    let bench = Bench::new().await;
    let browser = Browser::new(&bench).await;
    bench.clock.advance(100 * SECOND);
    let lost = bench.authlete.hold(Api::Token);
    let (answer, ()) = tokio::join!(browser.get(), async {
        bench.authlete.arrived(Api::Token, 1).await;
        // Nothing but the deadline of the call ends it.
        tokio::time::pause();
    });
    tokio::time::resume();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    lost.release();
    let answer = browser.get().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""), "{answer:?}");
}
