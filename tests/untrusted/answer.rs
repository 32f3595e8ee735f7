//! Responses of Authlete.

use std::{convert::Infallible, error::Error as _, fmt::Debug, sync::LazyLock};

use bytes::Bytes;
use http::{Response, StatusCode, header::WWW_AUTHENTICATE};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::shared::{MARK, now, read};
use crate::{
    api::{
        Authlete, Error, ErrorKind, IntrospectionAction, IntrospectionResponse, RevocationAction,
        TokenAction, TokenCreateAction, TokenIssueAction, TokenUpdateAction, TokenUpdateResponse,
    },
    credentials::Scheme,
    introspect::reading,
    observe::LogLimit,
    rejection::challenge::Challenges,
    rejection::{Protocol, Rejection},
    token::TokenInfo,
};

/// The fields of responses that contain secrets; the first one only where tokens are issued.
const SECRETS: [&str; 11] = [
    "responseContent",
    "accessToken",
    "refreshToken",
    "jwtAccessToken",
    "idToken",
    "ticket",
    "password",
    "subjectToken",
    "actorToken",
    "assertion",
    "deviceSecret",
];

/// The number of APIs.
const APIS: u8 = 9;

/// Input: a digit for the API, one for whether Authlete fails, and the body of its response. An unknown
/// action grants nothing; an error contains no values; `Debug` shows no secrets.
pub fn answer(input: &[u8]) {
    let [api, status, body @ ..] = input else { return };
    let status = if *status == b'5' { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let authlete = answering(status, Bytes::copy_from_slice(body));
    let api = api.wrapping_sub(b'0') % APIS;
    RUNTIME.block_on(async {
        match api {
            0 => introspected(authlete.introspection(&Default::default()).await, body),
            1 => updated(authlete.token_update(&Default::default()).await, body),
            2 => issued(authlete.token(&Default::default()).await, body, |answer| {
                answer.action == TokenAction::Ok
            }),
            3 => issued(authlete.token_issue(&Default::default()).await, body, |answer| {
                answer.action == TokenIssueAction::Ok
            }),
            4 => answered(authlete.token_create(&Default::default()).await, body, |answer| {
                answer.action == TokenCreateAction::Ok
            }),
            5 => answered(authlete.revocation(&Default::default()).await, body, |answer| {
                answer.action == RevocationAction::Ok
            }),
            6 => answered(authlete.token_fail(&Default::default()).await, body, |_| false),
            7 => answered(authlete.token_revoke(&Default::default()).await, body, |_| false),
            _ => answered(authlete.token_list(&Default::default()).await, body, |_| false),
        }
    });
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.unwrap_or_else(|error| panic!("{error}"))
});

/// A client whose calls all get this response.
fn answering(status: StatusCode, body: Bytes) -> Authlete {
    let transport = tower::service_fn(move |_| {
        let mut response = Response::new(Full::new(body.clone()));
        *response.status_mut() = status;
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let authlete = Authlete::builder()
        .base_url("http://localhost")
        .service_id("1")
        .service_access_token(MARK)
        .transport(transport)
        .build();
    authlete.unwrap_or_else(|error| panic!("{error}"))
}

fn introspected(answer: Result<IntrospectionResponse, Error>, body: &[u8]) {
    if let Ok(response) = &answer {
        let _ = (response.auth_time(), response.cnonce_expires_at());
        let verdict = reading::of_introspection(response, &LogLimit::default());
        assert_eq!(verdict.is_ok(), response.action == IntrospectionAction::Ok);
        judged(verdict);
    }
    answered(answer, body, |answer| answer.action == IntrospectionAction::Ok);
}

fn updated(answer: Result<TokenUpdateResponse, Error>, body: &[u8]) {
    if let Ok(response) = &answer {
        let verdict = reading::of_update(response, now(), &LogLimit::default());
        assert!(verdict.is_err() || response.action == TokenUpdateAction::Ok);
        let alive = |token: &TokenInfo| token.expires_at().is_none_or(|at| at > now());
        assert!(verdict.as_ref().map_or(true, alive));
        judged(verdict);
    }
    answered(answer, body, |answer| answer.action == TokenUpdateAction::Ok);
}

/// Facts have a `Debug` form, and a refusal repeats only text of Authlete that is legal in a header.
fn judged(verdict: Result<TokenInfo, Rejection>) {
    match verdict {
        Ok(token) => assert!(!format!("{token:?}").is_empty()),
        Err(rejection) => {
            let head = rejection.head(&Protocol::Http, &Challenges::default(), Scheme::Bearer);
            for challenge in head.headers().get_all(WWW_AUTHENTICATE) {
                assert!(read(challenge).is_some(), "{challenge:?}");
            }
        }
    }
}

fn issued<A: Debug>(answer: Result<A, Error>, body: &[u8], is_ok: impl Fn(&A) -> bool) {
    if let Ok(answer) = &answer {
        concealed(answer, body, &SECRETS);
    }
    answered(answer, body, is_ok);
}

/// The field that decides. Others are ignored, as in the models.
#[derive(Deserialize)]
struct Action {
    #[serde(default)]
    action: Value,
}

fn answered<A: Debug>(answer: Result<A, Error>, body: &[u8], is_ok: impl Fn(&A) -> bool) {
    match answer {
        Ok(answer) => {
            let sent = serde_json::from_slice(body).map(|Action { action }| action);
            // serde deserializes a unit variant from an object too.
            let granting = sent.is_ok_and(|it| it == "OK" || it == json!({ "OK": null }));
            assert!(granting || !is_ok(&answer), "{answer:?}");
            concealed(&answer, body, &SECRETS[1..]);
        }
        Err(error) => failed(&error),
    }
}

/// `Debug` shows nothing that stands in these fields alone.
fn concealed(answer: &impl Debug, body: &[u8], secrets: &[&str]) {
    let shown = format!("{answer:?}");
    let Ok(Value::Object(mut sent)) = serde_json::from_slice(body) else { return };
    sent.retain(|name, _| !secrets.contains(&name.as_str()));
    let properties = sent.get_mut("properties").and_then(Value::as_array_mut);
    for property in properties.into_iter().flatten().filter_map(Value::as_object_mut) {
        if property.get("hidden") == Some(&Value::Bool(true)) {
            property.remove("value");
        }
    }
    assert!(Value::Object(sent).to_string().contains(MARK) || !shown.contains(MARK), "{shown}");
}

/// An error names the wrong field, not its value. The text of a refusal can be logged.
fn failed(error: &Error) {
    let mut shown = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        shown += &error.to_string();
        cause = error.source();
    }
    match &error.kind {
        ErrorKind::Refused(refusal) => {
            let message = refusal.result_message.as_deref().unwrap_or_default();
            assert!(message.chars().count() <= 300 && !message.contains(char::is_control));
        }
        ErrorKind::Undecodable { path, .. } => {
            assert!(path.contains(MARK) || !shown.contains(MARK))
        }
        _ => assert!(!shown.contains(MARK), "{shown}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::super::strategies::{CASES, lines, seeds, value};
    use super::*;

    #[test]
    fn it_holds_of_all_seeds() {
        seeds("answer").iter().for_each(|seed| answer(seed));
    }

    #[rustfmt::skip]
    const JSON: &[&str] = &[
        "{", "}", "[", "]", ":", ",", "null", "true", "0", "-1", "1e999", "9223372036854775807", "\"OK\"",
        "\"action\":", "\"UNAUTHORIZED\"", "\"ok\"", "\"responseContent\":", "\"scopes\":", "\"a\"", "\"",
        "\"properties\":", "\"expiresAt\":", "\"hidden\":", "\\u0000", "\\ud800", MARK,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(CASES))]

        #[test]
        fn answers_that_are_no_json_are_errors(api in 0..APIS, input in lines(JSON)) {
            answer(&[&[b'0' + api, b'2'][..], &input].concat());
        }

        #[test]
        fn answers_are_what_was_sent(
            api in 0..APIS,
            status in select(&b"2222225"[..]),
            body in body(),
        ) {
            answer(format!("{api}{}{body}", char::from(status)).as_bytes());
        }
    }

    #[rustfmt::skip]
    const ACTIONS: &[&str] =
        &["OK", "ok", "OK ", "UNAUTHORIZED", "FORBIDDEN", "BAD_REQUEST", "NOT_FOUND", ""];

    #[rustfmt::skip]
    const TEXTS: &[&str] =
        &["subject", "responseContent", "resultMessage", "tokenType", "grantType", "acr"];

    /// Objects with members that are as documented, and others that are not.
    fn body() -> impl Strategy<Value = Value> {
        let action = prop_oneof![9 => select(ACTIONS).prop_map(Value::from), 1 => value()];
        let text =
            prop_oneof![Just(Value::from(MARK)), Just(Value::from("Bearer")), Just(Value::Null)];
        let secret = (select(&SECRETS[1..]), text.clone());
        let known = prop_oneof![
            6 => secret.prop_map(|(name, value)| (name, value)),
            3 => (select(TEXTS), text),
            3 => (select(&["expiresAt", "authTime", "accessTokenExpiresAt"][..]), any::<i64>().prop_map(Value::from)),
            2 => Just(("properties", json!([{ "key": "a", "value": MARK, "hidden": true }]))),
            1 => (select(&["properties", "scopes", "grant", "clientId", "x"][..]), value()),
        ];
        (proptest::option::weighted(0.9, action), vec(known, 0..8)).prop_map(|(action, members)| {
            let mut body: serde_json::Map<_, _> =
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            body.extend(action.map(|action| ("action".to_owned(), action)));
            Value::Object(body)
        })
    }
}
