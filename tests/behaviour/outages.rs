//! A failure to check is 503 or 500, never a verdict about the token.

use std::time::Duration;

use http::{StatusCode, header::RETRY_AFTER};
use serde_json::{Map, Value, json};
use tower_authlete::{
    AuthLayer, Authlete,
    api::IntrospectionResponse,
    emulator::{Api, Fault},
};

use crate::support::{Answer, Bench, Protected};

/// A request with a valid token during a fault.
async fn during(fault: Fault) -> Answer {
    let bench = Bench::new().await;
    let authlete = bench.authlete.client_builder().deadline(Duration::from_millis(300));
    let auth = AuthLayer::new(authlete.build().unwrap());
    let api = Protected::new(&auth);
    let token = bench.authlete.token().subject("alice").issue().await;
    bench.authlete.fault(fault);
    let answer = api.get(&token).await;
    // It is not cached either.
    bench.authlete.clear_faults();
    assert_eq!(api.get(&token).await.body, "alice");
    answer
}

fn assert_unavailable(answer: &Answer, what: &str) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
    assert!(answer.header(RETRY_AFTER).parse::<u64>().unwrap() > 0, "{what}");
    assert_eq!(answer.challenge(), "", "{what}");
}

#[tokio::test]
async fn failures_of_authlete_are_503() {
    for fault in [
        Fault::hang(),
        Fault::reset(),
        Fault::truncated(),
        Fault::status(500),
        Fault::status(502),
        Fault::status(503),
        Fault::status(429),
        Fault::status(408),
    ] {
        let what = format!("{fault:?}");
        assert_unavailable(&during(fault).await, &what);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_understood_is_503() {
    for body in [
        String::new(),
        "<html>Bad Gateway</html>".into(),
        "null".into(),
        "true".into(),
        "[]".into(),
        // serde would deserialize an array by position, here as OK.
        r#"["A056001","fine","OK"]"#.into(),
        "{}".into(),
        r#"{"action":null}"#.into(),
        r#"{"action":""}"#.into(),
        r#"{"action":"ok"}"#.into(),
        r#"{"action":"FINE"}"#.into(),
        r#"{"action":true}"#.into(),
        r#"{"action":["OK"]}"#.into(),
        r#"{"action":"OK"} and more"#.into(),
        r#"{"action":"OK","action":"OK"}"#.into(),
        r#"{"action":"OK","expiresAt":"tomorrow"}"#.into(),
        r#"{"action":"OK","expiresAt":1e300}"#.into(),
        r#"{"action":"OK","scopes":"admin"}"#.into(),
        r#"{"action":"OK","scopes":[null]}"#.into(),
        r#"{"active":true}"#.into(),
        r#"{"action":"INTERNAL_SERVER_ERROR"}"#.into(),
        format!(r#"{{"action":"OK","subject":"{}"}}"#, "a".repeat(1024 * 1024)),
    ] {
        let what = body.chars().take(80).collect::<String>();
        assert_unavailable(&during(Fault::body(body)).await, &what);
    }
}

#[tokio::test]
async fn null_everywhere_is_no_verdict_and_null_beside_ok_is_absent() {
    let fields = serde_json::to_value(filled()).unwrap();
    let nulls: Map<_, _> =
        fields.as_object().unwrap().keys().map(|name| (name.clone(), Value::Null)).collect();
    assert_unavailable(&during(Fault::body(json!(nulls).to_string())).await, "all null");
    let mut nulls = nulls;
    nulls["action"] = json!("OK");
    let bench = Bench::new().await;
    bench.authlete.fault(Fault::body(json!(nulls).to_string()));
    let answer = bench.api().get("abc").await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "nobody"));
}

fn filled() -> IntrospectionResponse {
    serde_json::from_value(json!({
        "action": "OK", "clientId": 1, "subject": "alice", "scopes": ["read"],
        "expiresAt": 1, "properties": [{"key": "a", "value": "b"}], "resources": ["r"],
        "authorizationDetails": {"elements": []}, "grant": {}, "grantType": "PASSWORD",
        "authTime": 1, "acr": "a", "serviceAttributes": [{}], "clientAttributes": [{}],
        "existent": true, "usable": true, "sufficient": true, "refreshable": true,
    }))
    .unwrap()
}

#[tokio::test]
async fn refused_credentials_of_this_server_are_500() {
    for status in [400, 401, 403, 404, 405, 301] {
        let answer = during(Fault::status(status)).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{status}");
        assert_eq!(answer.challenge(), "", "{status}");
    }
    let bench = Bench::new().await;
    let authlete = bench.authlete.client_builder().service_access_token("wrong").build().unwrap();
    let answer = Protected::new(&AuthLayer::new(authlete)).get("abc").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_refused_connection_is_503() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let authlete = Authlete::builder().base_url(url).service_id("1").service_access_token("t");
    let api = Protected::new(&AuthLayer::new(authlete.build().unwrap()));
    assert_unavailable(&api.get("abc").await, "nobody listens");
}

#[tokio::test]
async fn retry_after_of_authlete_is_relayed_to_the_client() {
    for status in [429, 503] {
        let answer = during(Fault::status(status).retry_after(17)).await;
        assert_eq!(answer.header(RETRY_AFTER), "17");
    }
}

#[tokio::test]
async fn cached_facts_serve_in_an_outage_until_max_age() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    api.get(&token).await;
    bench.authlete.fault(Fault::status(503).on(Api::Introspection));
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    bench.clock.advance(Duration::from_secs(60));
    assert_unavailable(&api.get(&token).await, "after max_age");
}
