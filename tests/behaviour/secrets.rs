//! Tokens and credentials appear in no log, error or `Debug`.

use std::fmt::Debug;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tower::service_fn;
use tower_authlete::{
    AuthLayer, Authlete, CachePolicy,
    api::{
        ApiVersion, IntrospectionRequest, IntrospectionResponse, Pair, Property, RequestBody,
        RevocationRequest, Secret, TokenCreateRequest, TokenCreateResponse, TokenFailRequest,
        TokenIssueRequest, TokenIssueResponse, TokenListRequest, TokenListResponse, TokenRequest,
        TokenResponse, TokenRevokeRequest, TokenUpdateRequest, TokenUpdateResponse,
    },
    credentials::MalformedCredentials,
    delegate::DelegateLayer,
    emulator::{EmulatorBuilder, Fault},
    endpoint::{Decision, RevocationEndpoint, TokenEndpoint},
    proof::ClientCertificate,
    resilience::{Breaker, Resilience},
};

use crate::{
    log::logged,
    support::{Bench, Protected},
};

#[tokio::test]
async fn no_failure_logs_a_secret() {
    let (log, _guard) = logged();
    let bench = Bench::new().await;
    let token = "S3cr3tAcc3ssT0k3n";
    bench.authlete.token().value(token).issue().await;
    let authlete = bench.authlete.client_builder().deadline(std::time::Duration::from_millis(200));
    let auth = AuthLayer::builder(authlete.build().unwrap()).cache(CachePolicy::disabled());
    // Every API is called, and fails in another way.
    let auth: AuthLayer =
        auth.resilience(Resilience::new().breaker(Breaker::disabled())).build().unwrap();
    let api = Protected::new(&auth);
    let echo = format!("{{\"action\":\"{token}\",\"expiresAt\":\"{token}\"}}");
    for fault in [
        None,
        Some(Fault::hang()),
        Some(Fault::reset()),
        Some(Fault::truncated()),
        Some(Fault::status(401)),
        Some(Fault::status(503)),
        Some(Fault::body(echo)),
        Some(Fault::body(format!("{{\"action\":\"OK\",\"scopes\":\"{token}\"}}"))),
        Some(Fault::body("{}")),
    ] {
        bench.authlete.clear_faults();
        fault.into_iter().for_each(|fault| bench.authlete.fault(fault));
        api.get(token).await;
        api.get_at("/write", token).await;
        let _ = api.handle.revoke("not this one").await;
    }
    let malformed = format!("{token} {token}");
    assert_eq!(api.get(&malformed).await.status, StatusCode::BAD_REQUEST);
    let text = log.text();
    assert!(text.contains("check this server's AUTHLETE_* settings"), "{text}");
    assert!(text.contains("request refused"), "{text}");
    // Sources of errors are kept.
    assert!(text.contains("no answer within 200 ms"), "{text}");
    for secret in [token, bench.authlete.service_access_token()] {
        assert!(!text.contains(secret), "{text}");
    }
}

const SECRET: &str = "S3cr3t+T0k3n/x~\"y\\z=";

/// The encodings of the secret that must not appear.
fn shown(text: &str) -> Option<String> {
    let percent = utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string();
    let json = serde_json::to_string(SECRET).unwrap();
    let base64 = BASE64_STANDARD.encode(SECRET);
    let twice = utf8_percent_encode(&percent, NON_ALPHANUMERIC).to_string();
    let forms = [SECRET, "S3cr3t", "T0k3n", &percent, &json, &base64[..12], &twice];
    forms.iter().find(|form| text.contains(**form)).map(|form| format!("{form} in {text}"))
}

fn all_of(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error:?}");
    let mut cause = Some(error);
    while let Some(error) = cause {
        text += &format!(" {error}");
        cause = error.source();
    }
    text
}

/// A client whose server or transport repeats the request in this encoding.
fn repeating(refuses: bool, basic: bool, encode: fn(&str) -> String) -> Authlete {
    let transport = service_fn(move |request: Request<RequestBody>| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let credentials = head.headers["authorization"].to_str().unwrap();
        let said = encode(&format!("{} {credentials} {SECRET} {body}", head.uri));
        if !refuses {
            return Err(std::io::Error::other(said));
        }
        let message = serde_json::json!({ "resultMessage": said, "resultCode": encode(SECRET) });
        let response = Response::builder().status(400);
        Ok(response.body(Full::<Bytes>::from(message.to_string())).unwrap())
    });
    let builder = Authlete::builder().base_url("http://localhost").service_id("1");
    let builder = match basic {
        true => builder.api_version(ApiVersion::V2).service_api_secret(SECRET),
        false => builder.service_access_token("S3cr3t.T0k3n-of-the-service"),
    };
    builder.transport(transport).build().unwrap()
}

#[tokio::test]
async fn what_was_sent_is_in_no_error_however_it_is_encoded() {
    let encodings: [fn(&str) -> String; 5] = [
        str::to_owned,
        |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
        |text| serde_json::to_string(text).unwrap(),
        |text| BASE64_STANDARD.encode(text),
        |text| BASE64_STANDARD.encode(format!("x{}", serde_json::to_string(text).unwrap())),
    ];
    let encoded = utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string();
    let form = format!("grant_type=password&client_secret={encoded}");
    for (number, encode) in encodings.into_iter().enumerate() {
        for (refuses, basic) in [(true, false), (true, true), (false, false), (false, true)] {
            let authlete = repeating(refuses, basic, encode);
            let token = TokenRequest::new().parameters(form.as_str());
            let revocation = RevocationRequest::new().parameters(form.as_str());
            let list = TokenListRequest::new().subject(SECRET);
            let errors = [
                authlete.token_delete(SECRET).await.unwrap_err(),
                authlete.token(&token).await.unwrap_err(),
                authlete.revocation(&revocation).await.unwrap_err(),
                authlete.token_list(&list).await.unwrap_err(),
            ];
            for error in errors {
                let leak = shown(&all_of(&error));
                assert_eq!(leak, None, "{number} refuses: {refuses}, basic: {basic}");
            }
        }
    }
}

#[tokio::test]
async fn debug_output_contains_no_secret() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let token = bench.authlete.token().value("S3cr3tAcc3ssT0k3n").hidden_property("risk", "h1dd3n");
    let token = token.issue().await;
    Protected::new(&auth).get(&token).await;
    let info = bench.authlete.authlete();
    let request = IntrospectionRequest::new().token(token.as_str());
    let response = info.introspection(&request).await.unwrap();
    let facts = tower_authlete::TokenInfo::from(&response);
    let everything = format!(
        "{auth:?} {:?} {:?} {info:?} {:?} {request:?} {response:?} {facts:?} {:?} {:?} {:?}",
        auth.handle(),
        bench.layer(),
        bench.authlete.client_builder(),
        bench.authlete,
        facts.scopes(),
        facts.properties(),
    );
    for secret in [&token, "h1dd3n", bench.authlete.service_access_token()] {
        assert!(!everything.contains(secret), "{everything}");
    }
}

/// The `Debug` form of a document with this secret.
fn debugged<T: Debug + DeserializeOwned>(secret: &str, document: &str) -> String {
    let document = document.replace("SECRET", secret);
    format!("{:?}", serde_json::from_str::<T>(&document).unwrap())
}

#[test]
fn documents_show_no_secret() {
    const MARK: &str = "S3cr3t";
    let hidden = r#"[{"key":"k","value":"SECRET","hidden":true}]"#;
    let pairs = r#"[{"key":"authorization","value":"SECRET"},{"key":"cookie","value":"a=SECRET"}]"#;
    let tokens = r#""accessToken":"SECRET","refreshToken":"SECRET","jwtAccessToken":"SECRET","#;
    let issued = format!(r#"{{{tokens}"properties":{hidden},"action":"OK"}}"#);
    let request =
        format!(r#"{{{tokens}"ticket":"SECRET","jwtAtClaims":"SECRET","properties":{hidden}}}"#);
    let shown = [
        debugged::<IntrospectionRequest>(
            MARK,
            &format!(
                r#"{{"token":"SECRET","dpop":"SECRET","htu":"https://a/SECRET","uri":"/?a=SECRET",
                "message":"SECRET","targetUri":"/?a=SECRET","headers":{pairs}}}"#
            ),
        ),
        debugged::<IntrospectionResponse>(
            MARK,
            &format!(
                r#"{{"properties":{hidden},"clientAttributes":{pairs},"serviceAttributes":{pairs},"action":"OK"}}"#
            ),
        ),
        debugged::<TokenRequest>(
            MARK,
            r#"{"parameters":"a=SECRET","clientSecret":"SECRET","properties":"[{\"value\":\"SECRET\"}]",
            "dpop":"SECRET","htu":"https://a/SECRET","accessToken":"SECRET","jwtAtClaims":"SECRET",
            "oauthClientAttestation":"SECRET","oauthClientAttestationPop":"SECRET"}"#,
        ),
        debugged::<TokenResponse>(
            MARK,
            &format!(
                r#"{{{tokens}"responseContent":"SECRET","password":"SECRET","ticket":"SECRET",
                "deviceSecret":"SECRET","sessionId":"SECRET","properties":{hidden},"action":"OK"}}"#
            ),
        ),
        debugged::<TokenIssueRequest>(MARK, &request),
        debugged::<TokenIssueResponse>(
            MARK,
            &issued.replacen('{', r#"{"responseContent":"SECRET","#, 1),
        ),
        debugged::<TokenFailRequest>(MARK, r#"{"ticket":"SECRET"}"#),
        debugged::<TokenCreateRequest>(
            MARK,
            &request.replacen('{', r#"{"sessionId":"SECRET","#, 1),
        ),
        debugged::<TokenCreateResponse>(MARK, &issued),
        debugged::<TokenUpdateRequest>(MARK, &request),
        debugged::<TokenUpdateResponse>(MARK, &issued),
        debugged::<TokenRevokeRequest>(
            MARK,
            r#"{"accessTokenIdentifier":"SECRET","refreshTokenIdentifier":"SECRET"}"#,
        ),
        debugged::<RevocationRequest>(
            MARK,
            r#"{"parameters":"token=SECRET","clientSecret":"SECRET",
            "oauthClientAttestation":"SECRET","oauthClientAttestationPop":"SECRET"}"#,
        ),
        debugged::<TokenListResponse>(
            MARK,
            &format!(r#"{{"accessTokens":[{{"properties":{hidden}}}]}}"#),
        ),
    ];
    for text in shown {
        assert!(!text.contains(MARK), "{text}");
        assert!(text.contains("[redacted]"), "{text}");
    }
}

#[cfg(all(feature = "dpop", feature = "rustls", feature = "session"))]
#[tokio::test]
async fn settings_show_no_secret() {
    use tower_authlete::{
        Dpop,
        session::{MemoryStore, SessionLayer, SessionTokens},
    };
    const MARK: &str = "S3cr3t";
    let bench = Bench::new().await;
    let builder = || Authlete::builder().service_id("1").base_url("https://a:S3cr3t@example.com");
    let (authlete, handle) = (bench.authlete.authlete(), bench.layer().build().unwrap().handle());
    let tokens = SessionTokens::new(MARK, None, Some(MARK.into()));
    let store = MemoryStore::default();
    let sessions = SessionLayer::builder(authlete.clone(), store.clone()).client("a", MARK);
    let token = TokenCreateRequest::new().access_token(MARK);
    let head =
        Request::get("/?access_token=S3cr3t").header("authorization", MARK).body(()).unwrap();
    let settings = [
        format!("{:?}", builder().service_access_token(MARK)),
        format!("{:?}", builder().service_api_secret(MARK).root_certificate_pem(MARK)),
        format!("{:?}", builder().build().map_err(|error| error.to_string())),
        format!("{:?}", Dpop::for_origin("https://example.com").nonce_key(MARK)),
        format!("{:?}", DelegateLayer::new(authlete.clone())),
        format!("{:?} {:?} {tokens:?}", sessions, store),
        format!("{:?}", Decision::create(token.clone())),
        format!("{:?}", Decision::issue_with("a", [Property::hidden("a", MARK)])),
        format!("{:?}", TokenEndpoint::new(authlete.clone(), &handle)),
        format!("{:?}", RevocationEndpoint::new(authlete, &handle)),
        format!("{:?}", Property::hidden("a", MARK)),
        format!("{:?}", Pair::from(("a", MARK))),
        format!("{:?}", Secret::from(MARK)),
        format!("{:?}", ClientCertificate::from_der(MARK.as_bytes().to_vec())),
        format!("{:?}", MalformedCredentials::new("malformed")),
        format!("{:?}", EmulatorBuilder::default().access_token(MARK)),
        format!("{:?}", head.uri().path()),
    ];
    for text in settings {
        assert!(!text.contains(MARK), "{text}");
    }
}

#[tokio::test]
async fn a_broken_clock_is_warned_of_once() {
    let (log, _guard) = logged();
    let bench = Bench::new().await;
    let ahead = tower_authlete::clock::Clock::frozen(
        bench.clock.now() + std::time::Duration::from_secs(7200),
    );
    let api = bench.api_with(|layer| layer.clock(ahead));
    for _ in 0..3 {
        let token = bench.authlete.token().issue().await;
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
    }
    assert_eq!(log.text().matches("check that the clock is right").count(), 1);
}
