//! For any request and any response of Authlete, a request is admitted only by an OK of Authlete.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use http_auth::ChallengeParser;
use http_body_util::Full;
use proptest::{collection::vec, option::weighted, prelude::*, sample::select};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_authlete::{
    AuthLayer, Authlete, CookieToken, TokenInfo,
    resilience::{Resilience, Retry},
};

/// The secret that must not appear anywhere.
const MARK: &str = "S3cr3tM4rk";

/// The outcome of a request.
struct Outcome {
    response: Response<Body>,
    calls: usize,
    passed: usize,
}

/// Sends a request through a layer whose Authlete sends this response.
fn send(request: Request<Body>, status: u16, answer: Bytes) -> Outcome {
    let (calls, passed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = calls.clone();
    let authlete = service_fn(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let response = Response::builder().status(status).body(Full::new(answer.clone()));
        async { Ok::<_, Infallible>(response.unwrap()) }
    });
    let authlete = Authlete::builder()
        .base_url("http://localhost")
        .service_id("1")
        .service_access_token(MARK)
        .transport(authlete)
        .build();
    let auth = AuthLayer::builder(authlete.unwrap())
        .resilience(Resilience::new().retry(Retry::disabled()))
        .token_source(CookieToken::new("token"));
    let count = passed.clone();
    let inner = service_fn(move |request: Request<Body>| {
        assert!(request.extensions().get::<TokenInfo>().is_some());
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    let service = auth.build().unwrap().layer(inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let response = runtime.block_on(service.oneshot(request)).unwrap();
    let count = |counter: Arc<AtomicUsize>| counter.load(Ordering::SeqCst);
    Outcome { response, calls: count(calls), passed: count(passed) }
}

/// Requests with and without tokens, in all places and forms.
fn request() -> impl Strategy<Value = Request<Body>> {
    let token = prop_oneof![
        6 => Just(MARK.as_bytes().to_vec()),
        2 => "[ -~]{0,20}".prop_map(|text| [text.as_bytes(), MARK.as_bytes()].concat()),
        1 => vec(any::<u8>(), 0..20),
    ];
    let place = select(
        &[
            ("authorization", "Bearer "),
            ("authorization", "Bearer "),
            ("authorization", "bearer   "),
            ("authorization", "DPoP "),
            ("authorization", "Basic "),
            ("cookie", "a=b; token="),
            ("dpop", ""),
            ("client-cert", ":"),
            ("content-type", "application/grpc;"),
        ][..],
    );
    let kind = select(
        &[
            (Method::GET, Version::HTTP_11),
            (Method::POST, Version::HTTP_11),
            (Method::POST, Version::HTTP_2),
        ][..],
    );
    (kind, vec((place, token), 0..3)).prop_map(|((method, version), headers)| {
        let request = Request::builder().method(method).version(version);
        let mut request = request.body(Body::empty()).unwrap();
        for ((name, start), token) in headers {
            let value = HeaderValue::from_bytes(&[start.as_bytes(), &token].concat());
            let value = value.ok().map(|value| (HeaderName::from_static(name), value));
            value.into_iter().for_each(|(name, value)| {
                request.headers_mut().append(name, value);
            });
        }
        request
    })
}

/// Responses of `/auth/introspection`, valid and malformed.
fn answer() -> impl Strategy<Value = Value> {
    let actions = ["OK", "OK", "OK", "ok", "UNAUTHORIZED", "FORBIDDEN", "BAD_REQUEST", "NEW", ""];
    let action = prop_oneof![
        9 => prop::sample::select(actions.to_vec()).prop_map(Value::from),
        1 => select(vec![json!(1), json!(["OK"]), json!(null), json!({ "OK": 1 })]),
    ];
    let contents = ["Bearer error=\"invalid_token\"", "Basic a", "Bearer a=\"\r\nb: c\"", "é", ""];
    let content = prop::sample::select(contents.to_vec());
    (weighted(0.9, action), content, any::<i64>()).prop_map(|(action, content, expires_at)| {
        let mut answer = json!({ "responseContent": content, "expiresAt": expires_at });
        if let Some(action) = action {
            answer["action"] = action;
        }
        answer
    })
}

/// The refusal is legal and contains no secret.
fn check_refusal(response: &Response<Body>, by_http2: bool) -> Result<(), TestCaseError> {
    let expected = [
        StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::INTERNAL_SERVER_ERROR,
    ];
    let of_grpc = response.headers().contains_key("grpc-status");
    let refused = if of_grpc { by_http2 } else { expected.contains(&response.status()) };
    prop_assert!(refused, "{response:?}");
    for challenge in response.headers().get_all(WWW_AUTHENTICATE) {
        let challenges: Result<Vec<_>, _> =
            ChallengeParser::new(challenge.to_str().unwrap()).collect();
        prop_assert_eq!(challenges.map(|challenges| challenges.len()), Ok(1));
    }
    let others = response.headers().iter().filter(|(name, _)| *name != CONTENT_TYPE);
    for (name, value) in others {
        prop_assert!(!format!("{value:?}").contains(MARK), "{name}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn nobody_gets_in_without_an_ok(
        request in request(),
        status in select(&[200, 200, 200, 200, 200, 302, 401, 503][..]),
        answer in answer(),
    ) {
        let is_ok = status == 200 && answer["action"] == "OK";
        let by_http2 = request.version() == Version::HTTP_2;
        let outcome = send(request, status, answer.to_string().into());
        prop_assert!(outcome.calls <= 1 && outcome.passed <= outcome.calls);
        prop_assert!(is_ok || outcome.passed == 0, "{answer}");
        if outcome.passed == 0 {
            check_refusal(&outcome.response, by_http2)?;
        }
    }

    #[test]
    fn nobody_gets_in_by_what_is_no_answer(answer in vec(any::<u8>(), 0..60)) {
        let request = Request::get("/").header("authorization", format!("Bearer {MARK}"));
        let outcome = send(request.body(Body::empty()).unwrap(), 200, answer.into());
        prop_assert_eq!((outcome.calls, outcome.passed), (1, 0));
        prop_assert_eq!(outcome.response.status(), StatusCode::SERVICE_UNAVAILABLE);
        check_refusal(&outcome.response, false)?;
    }
}

#[test]
fn an_ok_lets_a_good_request_in() {
    let request = Request::get("/").header("authorization", format!("Bearer {MARK}"));
    let answer = json!({ "action": "OK" }).to_string();
    let outcome = send(request.body(Body::empty()).unwrap(), 200, answer.into());
    assert_eq!((outcome.calls, outcome.passed), (1, 1));
}
