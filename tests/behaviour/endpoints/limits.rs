//! Limits of concurrency and time, failures of Authlete, settings.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode, header};
use tower_authlete::{
    AuthLayer, ClientCertificates,
    emulator::{Api, Fault},
    endpoint::{Limits, RevocationEndpoint, TokenEndpoint},
};
use tracing::Level;

use crate::{
    authorization_server::{PASSWORD, Server, body_of, limited, router, spawn_post},
    log::logged,
    support::{Bench, send, wrong_settings},
};

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_408() {
    let bench = Bench::new().await;
    let server = limited(&bench, Limits::new().max_in_flight(1).max_waiting(0));
    for path in ["/token", "/revoke"] {
        let slow = || {
            let body = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
            Request::post(path)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from_stream(body))
                .unwrap()
        };
        // A request without its body occupies no permit.
        let slow = (0..10).map(|_| send(server.endpoints.clone(), slow()));
        for answer in futures_util::future::join_all(slow).await {
            assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{path}");
            assert_eq!(body_of(&answer)["error"], "invalid_request");
        }
    }
    assert_eq!(bench.authlete.total_calls(), 0);
}

#[tokio::test]
async fn requests_beyond_the_limits_are_503_until_a_client_disconnects() {
    let bench = Bench::new().await;
    let server = limited(&bench, Limits::new().max_in_flight(1).max_waiting(1));
    let form = "grant_type=client_credentials";
    let hold = bench.authlete.hold(Api::Token);
    let first = spawn_post(&server, "/token", form);
    bench.authlete.arrived(Api::Token, 1).await;
    let mut waiting = spawn_post(&server, "/token", form);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    tokio::task::yield_now().await;
    let beyond = server.post("/token", form).await;
    assert_eq!(beyond.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(beyond.header(header::RETRY_AFTER), "1");
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let mut next = spawn_post(&server, "/token", form);
    assert!(futures_util::poll!(&mut next).is_pending());
    // A request whose client disconnects during its call keeps its permit until the call ends.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let beyond = server.post("/token", form).await;
    assert_eq!(beyond.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.authlete.calls(Api::Token), 1);
    hold.release();
    assert_eq!(next.await.unwrap().status, StatusCode::OK);
    assert_eq!(bench.authlete.calls(Api::Token), 2);
}

#[tokio::test]
async fn a_decision_beyond_the_deadline_is_dropped() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let (begun, decides) = tokio::sync::oneshot::channel();
    let begun = std::sync::Mutex::new(Some(begun));
    let token =
        TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle()).decide(move |_| {
            begun.lock().unwrap().take().unwrap().send(()).unwrap();
            std::future::pending()
        });
    let server = Server { endpoints: router(token, None), ..Server::new(&bench) };
    let late = spawn_post(&server, "/token", PASSWORD);
    decides.await.unwrap();
    tokio::time::pause();
    assert_eq!(late.await.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.authlete.total_calls(), 1);
}

#[tokio::test]
async fn an_outage_is_503_and_never_an_error_of_the_client() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    for (fault, status) in [
        (Fault::status(503), StatusCode::SERVICE_UNAVAILABLE),
        (Fault::reset(), StatusCode::SERVICE_UNAVAILABLE),
        (Fault::body("<html>"), StatusCode::SERVICE_UNAVAILABLE),
        (Fault::body(r#"{"action":"WHAT"}"#), StatusCode::SERVICE_UNAVAILABLE),
        (Fault::status(401), StatusCode::INTERNAL_SERVER_ERROR),
        (Fault::body("{}"), StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        bench.authlete.clear_faults();
        bench.authlete.fault(fault.clone());
        for (path, form) in [("/token", PASSWORD), ("/revoke", "token=abc")] {
            let answer = server.post(path, form).await;
            assert_eq!(answer.status, status, "{path} {fault:?}");
        }
    }
}

#[tokio::test]
async fn errors_of_an_outage_are_logged_at_a_limited_rate() {
    let (log, _guard) = logged();
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    bench.authlete.fault(Fault::status(401));
    for _ in 0..20 {
        server.post("/token", PASSWORD).await;
        server.post("/revoke", "token=abc").await;
    }
    bench.clock.advance(Duration::from_secs(10));
    server.post("/token", PASSWORD).await;
    let lines = log.lines(Level::ERROR, "could not be answered");
    assert!(lines.len() == 2 && lines[1].contains("left_out=39"), "{lines:?}");
}

#[tokio::test]
async fn a_wrong_setting_is_named_when_the_endpoint_is_built() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let token = || TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle());
    let revoke = || RevocationEndpoint::builder(bench.authlete.authlete(), &auth.handle());
    let none = Limits::new().max_in_flight(0);
    let garbled = || ClientCertificates::from_envoy(["localhost"]);
    for (setting, error) in [
        ("url", token().url("as.example.com/token").build().unwrap_err()),
        ("limits.max_in_flight", token().limits(none).build().unwrap_err()),
        ("limits.max_in_flight", revoke().limits(none).build().unwrap_err()),
        ("client_certificates", token().client_certificates(garbled()).build().unwrap_err()),
        ("client_certificates", revoke().client_certificates(garbled()).build().unwrap_err()),
    ] {
        assert_eq!(wrong_settings(&error), [setting]);
    }
}
