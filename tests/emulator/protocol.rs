//! The protocol: paths, credentials, methods, content types.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tower_authlete::{api::ApiVersion, emulator::Emulator};

use crate::support::is_good;

/// A call without the client: status and JSON body.
async fn call(
    emulator: &Emulator,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (StatusCode, Value) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::builder().method(method).uri(format!("{}{path}", emulator.base_url()));
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Full::from(body.to_owned())).unwrap();
    let response = client.request(request).await.unwrap();
    let status = response.status();
    if status != StatusCode::NO_CONTENT {
        assert_eq!(response.headers()["content-type"], "application/json;charset=UTF-8");
    }
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

const JSON: (&str, &str) = ("content-type", "application/json;charset=UTF-8");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[tokio::test]
async fn v3_takes_a_service_access_token_and_the_services_id() {
    let emulator = Emulator::start().await;
    let bearer = format!("Bearer {}", emulator.service_access_token());
    let path = format!("/api/{}/auth/introspection", emulator.service_id());
    let body = json!({ "token": "abc" }).to_string();
    let post = async |path: &str, authorization: &str| {
        let headers = [("authorization", authorization), JSON];
        call(&emulator, Method::POST, path, &headers, &body).await
    };
    let (status, answer) = post(&path, &bearer).await;
    assert_eq!((status, &answer["action"]), (StatusCode::OK, &"UNAUTHORIZED".into()));
    for (path, authorization, expected) in [
        (path.as_str(), "Bearer wrong", StatusCode::UNAUTHORIZED),
        (&path, "Basic YTpi", StatusCode::UNAUTHORIZED),
        (&path, "nonsense", StatusCode::UNAUTHORIZED),
        ("/api/1/auth/introspection", &bearer, StatusCode::FORBIDDEN),
        ("/api/1/auth/unheard-of", &bearer, StatusCode::NOT_FOUND),
        ("/api/auth/introspection", &bearer, StatusCode::NOT_FOUND),
        ("/api//auth/introspection", &bearer, StatusCode::FORBIDDEN),
        ("/apix/auth/introspection", &bearer, StatusCode::NOT_FOUND),
        ("/api%E2%82%AC/1/auth/introspection", &bearer, StatusCode::NOT_FOUND),
        ("/apix/1/auth/introspection", &bearer, StatusCode::NOT_FOUND),
        ("/api/", &bearer, StatusCode::NOT_FOUND),
        ("/api", &bearer, StatusCode::NOT_FOUND),
        ("/", &bearer, StatusCode::NOT_FOUND),
    ] {
        let (status, answer) = post(path, authorization).await;
        assert_eq!(status, expected, "{path} {authorization}");
        assert!(answer["resultCode"].as_str().unwrap().starts_with('A'));
        assert!(answer["resultMessage"].is_string());
    }
}

#[tokio::test]
async fn v2_takes_a_key_and_a_secret() {
    let emulator = Emulator::builder().api_version(ApiVersion::V2).start().await.unwrap();
    let token = emulator.token().issue().await;
    assert!(is_good(&emulator.authlete(), &token).await);
    let wrong = emulator.client_builder().service_api_secret("wrong").build().unwrap();
    let request = tower_authlete::api::IntrospectionRequest::new().token(token);
    assert!(wrong.introspection(&request).await.unwrap_err().is_our_fault());
    let headers = [("authorization", "Bearer abc"), JSON];
    let path = "/api/auth/introspection";
    let (status, _) = call(&emulator, Method::POST, path, &headers, "{}").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bodies_are_json_or_forms_and_nulls_are_nothing() {
    let emulator = Emulator::start().await;
    let token = emulator.token().scopes(["a", "b"]).issue().await;
    let bearer = format!("Bearer {}", emulator.service_access_token());
    let path = |api: &str| format!("/api/{}/auth/{api}", emulator.service_id());
    let post = async |api: &str, kind: (&str, &str), body: &str| {
        let headers = [("authorization", bearer.as_str()), kind];
        call(&emulator, Method::POST, &path(api), &headers, body).await
    };
    let all_null = json!({
        "token": token, "scopes": null, "subject": null, "maxAge": null, "headers": null,
        "dpopNonceRequired": null, "unheardOf": 1,
    });
    let (_, answer) = post("introspection", JSON, &all_null.to_string()).await;
    assert_eq!(answer["action"], "OK");
    let form = format!("token={token}&scopes=a+b&maxAge=0");
    let (_, answer) = post("introspection", FORM, &form).await;
    assert_eq!(answer["action"], "OK");
    let (_, answer) = post("introspection", FORM, &format!("token={token}&scopes=a+c")).await;
    assert_eq!(answer["action"], "FORBIDDEN");
    // Forms cannot carry properties.
    let form = format!("accessToken={token}&accessTokenValueUpdated=false&properties=x&scopes=a");
    let (status, answer) = post("token/update", FORM, &form).await;
    assert_eq!((status, &answer["action"]), (StatusCode::OK, &"OK".into()));
    assert_eq!((&answer["scopes"], &answer["properties"]), (&json!(["a"]), &Value::Null));
    for nonsense in ["", "{", "[]x", "{\"token\":1}"] {
        let (status, _) = post("introspection", JSON, nonsense).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{nonsense}");
    }
    let headers = [("authorization", bearer.as_str())];
    let (status, _) = call(&emulator, Method::GET, &path("introspection"), &headers, "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

/// Documented as text; Authlete's SDK sends a list.
#[tokio::test]
async fn properties_of_a_token_request_are_a_text_or_a_list() {
    let emulator = Emulator::start().await;
    let bearer = format!("Bearer {}", emulator.service_access_token());
    let path = format!("/api/{}/auth/token", emulator.service_id());
    let properties = json!([{ "key": "plan", "value": "gold" }, { "key": "b", "hidden": true }]);
    let request = async |properties: Value| {
        let body = json!({
            "parameters": "grant_type=client_credentials",
            "clientId": emulator.client_id().to_string(),
            "clientSecret": emulator.client_secret(),
            "properties": properties,
        });
        let headers = [("authorization", bearer.as_str()), JSON];
        call(&emulator, Method::POST, &path, &headers, &body.to_string()).await
    };
    for given in [properties.to_string().into(), properties] {
        let (status, answer) = request(given).await;
        assert_eq!((status, &answer["action"]), (StatusCode::OK, &"OK".into()));
        assert_eq!(answer["properties"][0], json!({ "key": "plan", "value": "gold" }));
        assert_eq!(answer["properties"][1]["hidden"], true);
    }
    let (_, answer) = request(Value::Null).await;
    assert_eq!(answer["action"], "OK");
    for wrong in [json!(1), json!({ "plan": "gold" })] {
        assert_eq!(request(wrong).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_service_has_the_settings_it_was_given() {
    let emulator = Emulator::builder().service_id("a b").access_token("xyz").start().await.unwrap();
    assert_eq!((emulator.service_id(), emulator.service_access_token()), ("a b", "xyz"));
    let latency = std::time::Duration::from_millis(5);
    let emulator = Emulator::builder().latency(latency).start().await.unwrap();
    assert!(!is_good(&emulator.authlete(), "abc").await);
}
