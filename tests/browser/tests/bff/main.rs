//! The page of `examples/bff` in Chromium. The clock of the server stands still unless a test moves it.

#[path = "../../../../examples/bff/app.rs"]
mod app;
mod server;

use std::time::Duration;

use app::{LIFE, MARGIN};
use axum::{Router, response::Html, routing::get};
use browser_tests::{Browser, Entry, Key};
use serde_json::json;
use server::Server;
use tower_authlete::emulator::{Api, Fault};

/// Alice, as a person logs her in.
async fn log_in(browser: &Browser, server: &Server) {
    browser.open(&server.url("localhost", "/")).await;
    browser.wait_for_text("#logged-out", "Log in").await;
    browser.click("#log-in button").await;
    browser.wait_for_text("#subject", "alice").await;
}

/// Clicks a button that calls the API, and waits for the line that tells the outcome.
async fn call(browser: &Browser, button: &str, outcome: &str) {
    let lines = browser.evaluate("document.querySelector('#calls').childElementCount").await;
    browser.click(button).await;
    browser
        .wait_for(&format!("document.querySelector('#calls').childElementCount > {lines}"))
        .await;
    let line = browser.text("#calls li:first-child").await;
    assert!(line.contains(outcome), "{line}");
}

/// What the console got, but for responses of the API that are errors on purpose.
async fn problems(browser: &Browser) -> Vec<Entry> {
    let mut log = browser.log().await;
    log.retain(|it| !(it.source == "network" && it.message.contains("/api/hello")));
    log
}

#[tokio::test]
async fn a_user_logs_in_calls_the_api_and_logs_out() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    log_in(&browser, &server).await;
    assert_eq!(browser.text("#scopes").await, "profile\nreports.read");
    call(&browser, "#call", "200").await;
    assert!(browser.text("#calls li").await.contains("hello alice"));
    assert_eq!(browser.text("#refreshes").await, "0");

    browser.click("#log-out").await;
    browser.wait_for_text("#status", "You are logged out").await;
    assert_eq!(browser.text("#logged-in").await, "");
    assert_eq!(server.authlete.calls(Api::TokenRevoke), 1, "tokens are revoked at Authlete");
    assert_eq!(server.sessions(), 0);
    call(&browser, "#call", "401").await;
    browser.wait_for_text("#status", "The API answered 401: log in first.").await;
    assert_eq!(browser.text("#logged-in").await, "");
    assert!(problems(&browser).await.is_empty());
}

#[tokio::test]
async fn ten_calls_at_once_cause_one_renewal() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    log_in(&browser, &server).await;
    server.authlete.clock().advance(LIFE - MARGIN);
    for refreshes in 1..=2 {
        call(&browser, "#call-ten", "10 of 10: hello alice").await;
        let line = browser.text("#calls li:first-child").await;
        assert!(line.contains("after 1 refresh request to Authlete"), "{line}");
        assert_eq!(server.authlete.calls(Api::Token), refreshes);
        assert_eq!(browser.text("#refreshes").await, refreshes.to_string());
        // The second time, the token has expired.
        server.authlete.clock().advance(LIFE);
    }
    assert!(problems(&browser).await.is_empty());
}

#[tokio::test]
async fn the_page_shows_how_the_life_of_the_token_passes() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    log_in(&browser, &server).await;
    let life = "document.querySelector('#life-bar').value";
    let first = browser.evaluate(life).await;
    browser.wait_for(&format!("{life} < {first}")).await;
    assert!(browser.text("#life").await.ends_with(" s left"));
    // The server's time passes, and the page hears of it from the API.
    server.authlete.clock().advance(LIFE - MARGIN - Duration::from_secs(1));
    call(&browser, "#call", "200").await;
    browser.wait_for_text("#life", "renewal due").await;
    assert_eq!(server.authlete.calls(Api::Token), 0);
    assert!(problems(&browser).await.is_empty());
}

#[tokio::test]
async fn no_token_reaches_the_browser_and_no_script_reads_the_cookie() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    log_in(&browser, &server).await;
    server.authlete.clock().advance(LIFE);
    call(&browser, "#call-ten", "after 1 refresh request").await;
    let reach = "(async () => ({
        cookie: document.cookie,
        page: document.documentElement.outerHTML,
        stored: JSON.stringify([localStorage, sessionStorage]),
        others: await Promise.all([indexedDB.databases(), caches.keys()]),
    }))()";
    let reach = browser.evaluate(reach).await;
    assert_eq!(reach["cookie"], "");
    assert_eq!(reach["stored"], "[{},{}]");
    assert_eq!(reach["others"], json!([[], []]));
    assert_eq!(browser.text("#cookies").await, "empty");

    let cookies = browser.cookies().await;
    let [cookie] = &cookies[..] else { panic!("{} cookies", cookies.len()) };
    assert_eq!((cookie.secure, cookie.http_only), (Some(true), Some(true)));

    let sent = server.sent();
    assert!(sent.contains("hello alice") && sent.contains(&cookie.value), "responses are recorded");
    let tokens = server.tokens();
    assert_eq!(tokens.len(), 4, "two pairs of tokens");
    for token in tokens {
        let page = reach["page"].as_str().unwrap();
        assert!(!page.contains(&token) && !sent.contains(&token) && cookie.value != token);
    }
    assert!(problems(&browser).await.is_empty());
}

#[tokio::test]
async fn without_tls_the_cookie_is_accepted_from_localhost_only() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    for (host, cookies) in [("localhost", 1), ("127.0.0.1", 1), ("bff.test", 0)] {
        browser.open(&server.url(host, "/")).await;
        browser.wait_for_text("#logged-out", "Log in").await;
        browser.click("#log-in button").await;
        let selector = if cookies == 0 { "#status" } else { "#subject" };
        let text = if cookies == 0 { "did not keep the session's cookie" } else { "alice" };
        browser.wait_for_text(selector, text).await;
        assert_eq!(browser.cookies().await.len(), cookies, "{host}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_cannot_log_out() {
    let Some(browser) = Browser::start().await else { return };
    let (server, other) = (Server::start().await, Server::serve(elsewhere()).await);
    log_in(&browser, &server).await;
    let logout = server.url("localhost", "/logout");
    let post =
        format!("fetch('{logout}', {{ method: 'POST', mode: 'no-cors', credentials: 'include' }})");
    // The first is another site. The second is the same site, since ports make none: it has the cookie.
    for (host, has_cookie) in [("127.0.0.1", false), ("localhost", true)] {
        browser.open(&format!("http://{host}:{other}/")).await;
        browser.evaluate(&format!("{post}.then(() => true)")).await;
        assert_eq!(server.last(), ("POST /logout".to_owned(), has_cookie, 403), "{host}");
    }
    assert_eq!((server.sessions(), server.authlete.calls(Api::TokenRevoke)), (1, 0));
    browser.open(&server.url("localhost", "/")).await;
    browser.wait_for_text("#subject", "alice").await;
}

#[tokio::test]
async fn a_session_that_ended_elsewhere_is_told() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    log_in(&browser, &server).await;
    server.forget_sessions();
    call(&browser, "#call", "401").await;
    browser.wait_for_text("#status", "The session has ended").await;
    browser.wait_for_text("#logged-out", "Log in").await;
    assert!(browser.cookies().await.is_empty(), "the response removes it");
    assert!(problems(&browser).await.is_empty());
}

#[tokio::test]
async fn an_outage_of_authlete_logs_nobody_out() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    log_in(&browser, &server).await;
    server.authlete.clock().advance(LIFE);
    server.authlete.fault(Fault::status(503).on(Api::Token));
    call(&browser, "#call", "503").await;
    assert!(browser.text("#calls li").await.contains("try again later"));
    assert_eq!(browser.text("#subject").await, "alice");
    server.authlete.clear_faults();
    server.authlete.clock().advance(LIFE);
    call(&browser, "#call", "200").await;
}

#[tokio::test]
async fn everything_can_be_done_by_keyboard() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    browser.open(&server.url("localhost", "/")).await;
    browser.wait_for_text("#logged-out", "Log in").await;
    for key in [Key::Tab, Key::Down, Key::Enter] {
        browser.press(&[key]).await;
    }
    browser.wait_for_text("#subject", "bob").await;
    // The focus is where the next step begins.
    browser.press(&[Key::Enter]).await;
    browser.wait_for_text("#calls li", "hello bob").await;
    browser.press(&[Key::Shift, Key::Tab]).await;
    browser.press(&[Key::Enter]).await;
    browser.wait_for_text("#status", "You are logged out").await;
}

#[tokio::test]
async fn the_policy_of_the_page_allows_only_its_own_files() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    browser.open(&server.url("localhost", "/")).await;
    browser.wait_for_text("#logged-out", "Log in").await;
    assert!(problems(&browser).await.is_empty());
    let script = "document.head.append(Object.assign(document.createElement('style'), { textContent: '*{}' }))";
    browser.evaluate(script).await;
    let log = problems(&browser).await;
    assert!(log.iter().any(|it| it.message.contains("Content Security Policy")), "{log:?}");
    let refused =
        "(() => { try { document.body.innerHTML = '<b>' } catch (error) { return error.name } })()";
    assert_eq!(browser.evaluate(refused).await, json!("TypeError"));
}

#[tokio::test]
async fn repeated_calls_renew_the_token_without_a_click() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    log_in(&browser, &server).await;
    server.authlete.clock().advance(LIFE);
    browser.click("#repeat").await;
    browser.wait_for_text("#calls", "after 1 refresh request to Authlete").await;
    browser.click("#log-out").await;
    browser.wait_for_text("#status", "You are logged out").await;
    assert_eq!(browser.evaluate("document.querySelector('#repeat').checked").await, false);
}

#[tokio::test]
async fn the_page_fits_phones_and_desktops() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    log_in(&browser, &server).await;
    call(&browser, "#call-ten", "10 of 10").await;
    fits(&browser).await;
    browser.click("#log-out").await;
    browser.wait_for_text("#status", "You are logged out").await;
    fits(&browser).await;
}

/// Nothing has to be scrolled sideways.
async fn fits(browser: &Browser) {
    for width in [320, 390, 840, 1280] {
        browser.resize(width, "light").await;
        let page = browser.evaluate("[innerWidth, document.documentElement.scrollWidth]").await;
        assert_eq!(page, json!([width, width]));
    }
}

#[tokio::test]
async fn the_page_is_dark_where_dark_is_preferred() {
    let Some(browser) = Browser::start().await else { return };
    let server = Server::start().await;
    browser.open(&server.url("localhost", "/")).await;
    let colors = "(({ color, backgroundColor }) => [color, backgroundColor])(getComputedStyle(document.body))";
    browser.resize(1280, "light").await;
    let light = browser.evaluate(colors).await;
    browser.resize(1280, "dark").await;
    let dark = browser.evaluate(colors).await;
    assert!(light[0] != dark[0] && light[1] != dark[1], "{light} {dark}");
}

/// A page that is not the server's.
fn elsewhere() -> Router {
    Router::new().route("/", get(|| async { Html("<title>elsewhere</title>") }))
}
