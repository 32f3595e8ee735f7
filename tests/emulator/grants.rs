use serde_json::Value;
use tower_authlete::{
    api::{
        TokenAction::*, TokenFailAction, TokenFailReason, TokenFailRequest, TokenIssueAction,
        TokenIssueRequest, TokenRequest, TokenResponse, TokenType,
    },
    emulator::Emulator,
};

use crate::support::{SECOND, introspect, is_good, start, token_request};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

async fn ask(emulator: &Emulator, parameters: &str) -> TokenResponse {
    emulator.authlete().token(&token_request(emulator, parameters)).await.unwrap()
}

fn error(response: &TokenResponse) -> String {
    let content = response.response_content.as_ref().unwrap().expose();
    serde_json::from_str::<Value>(content).unwrap()["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn client_credentials_issue_at_once() {
    let (emulator, authlete) = start().await;
    let response = ask(&emulator, "grant_type=client_credentials&scope=read+write").await;
    assert_eq!(response.action, Ok);
    let body: Value =
        serde_json::from_str(response.response_content.as_ref().unwrap().expose()).unwrap();
    let token = response.access_token.as_ref().unwrap().expose();
    assert_eq!((&body["access_token"], &body["token_type"]), (&token.into(), &"Bearer".into()));
    assert_eq!((&body["scope"], &body["expires_in"]), (&"read write".into(), &3600.into()));
    let facts = introspect(&authlete, token).await;
    assert_eq!((facts.subject, facts.scopes.len()), (None, 2));
}

#[tokio::test]
async fn a_client_is_known_by_basic_or_by_the_form() {
    let (emulator, authlete) = start().await;
    let id = emulator.client_id().to_string();
    let secret = emulator.client_secret();
    let form =
        |rest: &str| TokenRequest::new().parameters(format!("grant_type=client_credentials{rest}"));
    for (request, action) in [
        (form("").client_id(&id).client_secret(secret), Ok),
        (form("").client_id(emulator.client_id_alias()).client_secret(secret), Ok),
        (form(&format!("&client_id={id}&client_secret={secret}")), Ok),
        (form(""), InvalidClient),
        (form("").client_id(&id), InvalidClient),
        (form("").client_id(&id).client_secret("wrong"), InvalidClient),
        (form("").client_id("1").client_secret(secret), InvalidClient),
    ] {
        assert_eq!(authlete.token(&request).await.unwrap().action, action, "{request:?}");
    }
}

#[tokio::test]
async fn a_refresh_replaces_both_tokens() {
    let (emulator, authlete) = start().await;
    let pair = emulator.token().subject("alice").scopes(["a", "b"]).issue_with_refresh().await;
    let refresh = format!("grant_type=refresh_token&refresh_token={}", pair.refresh_token);
    let response = ask(&emulator, &refresh).await;
    assert_eq!((response.action, response.subject.as_deref()), (Ok, Some("alice")));
    assert_eq!(response.scopes, ["a", "b"]);
    let (access, next) = (response.access_token.unwrap(), response.refresh_token.unwrap());
    assert!(is_good(&authlete, access.expose()).await);
    assert!(!is_good(&authlete, &pair.access_token).await);
    let again = ask(&emulator, &refresh).await;
    assert_eq!((again.action, error(&again).as_str()), (BadRequest, "invalid_grant"));
    let refresh = format!("grant_type=refresh_token&refresh_token={}", next.expose());
    assert_eq!(ask(&emulator, &refresh).await.action, Ok);
}

#[tokio::test]
async fn a_refresh_can_narrow_scopes_and_not_widen_them() {
    let (emulator, _) = start().await;
    let pair = emulator.token().scopes(["a", "b"]).issue_with_refresh().await;
    let refresh = |token: &str, scope: &str| {
        format!("grant_type=refresh_token&refresh_token={token}&scope={scope}")
    };
    let wide = ask(&emulator, &refresh(&pair.refresh_token, "a+c")).await;
    assert_eq!((wide.action, error(&wide).as_str()), (BadRequest, "invalid_scope"));
    let narrow = ask(&emulator, &refresh(&pair.refresh_token, "a")).await;
    assert_eq!((narrow.action, &narrow.scopes[..]), (Ok, &["a".to_owned()][..]));
    // Narrowed scopes can be requested again (RFC 6749 §6).
    let next = narrow.refresh_token.unwrap();
    assert_eq!(ask(&emulator, &refresh(next.expose(), "b")).await.action, Ok);
}

#[tokio::test]
async fn an_expired_refresh_token_is_no_grant() {
    let (emulator, _) = start().await;
    let pair = emulator.token().issue_with_refresh().await;
    emulator.clock().advance(86_400 * SECOND);
    let refresh = format!("grant_type=refresh_token&refresh_token={}", pair.refresh_token);
    assert_eq!(error(&ask(&emulator, &refresh).await), "invalid_grant");
}

#[tokio::test]
async fn password_exchange_and_assertion_hand_out_tickets() {
    let (emulator, authlete) = start().await;
    let inbound = emulator.token().subject("alice").scopes(["read"]).issue().await;
    let password = ask(&emulator, "grant_type=password&username=a&password=b&scope=read").await;
    assert_eq!(password.action, Password);
    assert_eq!(
        (password.username.as_deref(), password.password.as_ref().unwrap().expose()),
        (Some("a"), "b")
    );
    let exchange = format!(
        "grant_type={EXCHANGE}&subject_token={inbound}&subject_token_type={ACCESS_TOKEN}&audience=x"
    );
    let exchange = ask(&emulator, &exchange).await;
    assert_eq!(exchange.action, TokenExchange);
    assert_eq!(exchange.subject_token_type, Some(TokenType::AccessToken));
    assert_eq!(exchange.subject_token_info.as_ref().unwrap().subject.as_deref(), Some("alice"));
    assert_eq!(exchange.audiences, ["x"]);
    let assertion = ask(&emulator, &format!("grant_type={JWT_BEARER}&assertion=jwt")).await;
    assert_eq!(
        (assertion.action, assertion.assertion.as_ref().unwrap().expose()),
        (JwtBearer, "jwt")
    );

    for response in [password, exchange, assertion] {
        let ticket = response.ticket.unwrap();
        let request =
            TokenIssueRequest::new().ticket(&ticket).subject("bob").properties([("plan", "gold")]);
        let issued = authlete.token_issue(&request).await.unwrap();
        assert_eq!(issued.action, TokenIssueAction::Ok);
        let body: Value =
            serde_json::from_str(issued.response_content.as_ref().unwrap().expose()).unwrap();
        assert_eq!(body["plan"], "gold");
        let facts = introspect(&authlete, issued.access_token.unwrap().expose()).await;
        assert_eq!(facts.subject.as_deref(), Some("bob"));
        // A ticket is single-use.
        let again = authlete.token_issue(&request).await.unwrap();
        assert_eq!(again.action, TokenIssueAction::InternalServerError);
    }
}

#[tokio::test]
async fn a_ticket_can_fail_once() {
    let (emulator, authlete) = start().await;
    for (reason, expected) in [
        (TokenFailReason::Unknown, "invalid_request"),
        (TokenFailReason::InvalidResourceOwnerCredentials, "invalid_grant"),
        (TokenFailReason::InvalidTarget, "invalid_target"),
    ] {
        let response = ask(&emulator, "grant_type=password&username=a&password=b").await;
        let request = TokenFailRequest::new().ticket(response.ticket.unwrap()).reason(reason);
        let failed = authlete.token_fail(&request).await.unwrap();
        assert_eq!(failed.action, TokenFailAction::BadRequest);
        let body: Value = serde_json::from_str(&failed.response_content.unwrap()).unwrap();
        assert_eq!(body["error"], expected);
        let again = authlete.token_fail(&request).await.unwrap();
        assert_eq!(again.action, TokenFailAction::InternalServerError);
    }
}

#[tokio::test]
async fn missing_and_unknown_parameters_have_errors_of_their_own() {
    let emulator = Emulator::builder().scopes(["read"]).start().await.unwrap();
    for (parameters, expected) in [
        ("", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type=authorization_code&code=a", "unsupported_grant_type"),
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=password&username=a", "invalid_request"),
        ("grant_type=client_credentials&scope=unheard-of", "invalid_scope"),
        (&format!("grant_type={EXCHANGE}&subject_token=a"), "invalid_request"),
        (&format!("grant_type={JWT_BEARER}"), "invalid_request"),
    ] {
        let response = ask(&emulator, parameters).await;
        assert_eq!(
            (response.action, error(&response).as_str()),
            (BadRequest, expected),
            "{parameters}"
        );
    }
}

#[tokio::test]
async fn an_access_token_that_was_seen_to_have_expired_can_still_be_refreshed() {
    let (emulator, authlete) = start().await;
    let pair = emulator.token().subject("alice").expires_in(SECOND).issue_with_refresh().await;
    emulator.clock().advance(SECOND);
    assert!(!is_good(&authlete, &pair.access_token).await);
    let refresh = format!("grant_type=refresh_token&refresh_token={}", pair.refresh_token);
    let response = ask(&emulator, &refresh).await;
    assert_eq!((response.action, response.subject.as_deref()), (Ok, Some("alice")));
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_old_pair_as_it_is() {
    let (emulator, authlete) = start().await;
    let taken = emulator.token().issue().await;
    let pair = emulator.token().issue_with_refresh().await;
    let refresh = format!("grant_type=refresh_token&refresh_token={}", pair.refresh_token);
    let request = token_request(&emulator, &refresh).access_token(taken);
    assert_eq!(authlete.token(&request).await.unwrap().action, BadRequest);
    assert!(is_good(&authlete, &pair.access_token).await);
    assert_eq!(ask(&emulator, &refresh).await.action, Ok);
}

#[tokio::test]
async fn a_refresh_can_narrow_resources_and_not_widen_them() {
    let (emulator, _) = start().await;
    let pair = emulator.token().resources(["urn:a", "urn:b"]).issue_with_refresh().await;
    let refresh =
        |token: &str, rest: &str| format!("grant_type=refresh_token&refresh_token={token}&{rest}");
    let wide = ask(&emulator, &refresh(&pair.refresh_token, "resource=urn:a&resource=urn:c")).await;
    assert_eq!((wide.action, error(&wide).as_str()), (BadRequest, "invalid_target"));
    let narrow = ask(&emulator, &refresh(&pair.refresh_token, "resource=urn:a")).await;
    assert_eq!(
        (narrow.action, &narrow.access_token_resources[..]),
        (Ok, &["urn:a".to_owned()][..])
    );
    // Narrowed resources can be requested again (RFC 8707 §2.2).
    let whole = ask(&emulator, &refresh(narrow.refresh_token.unwrap().expose(), "")).await;
    assert_eq!(whole.access_token_resources, ["urn:a", "urn:b"]);
    let pair = emulator.token().issue_with_refresh().await;
    let wide = ask(&emulator, &refresh(&pair.refresh_token, "resource=urn:a")).await;
    assert_eq!(error(&wide), "invalid_target");
}

#[tokio::test]
async fn an_access_token_that_is_not_good_cannot_be_exchanged() {
    let (emulator, _) = start().await;
    let good = emulator.token().issue().await;
    let expired = emulator.token().expires_at(emulator.clock().now()).issue().await;
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    for (subject, kind, actor, is_good) in [
        (good.as_str(), ACCESS_TOKEN, good.as_str(), true),
        ("unknown", jwt, &good, true),
        ("unknown", ACCESS_TOKEN, &good, false),
        (&expired, ACCESS_TOKEN, &good, false),
        (&good, ACCESS_TOKEN, "unknown", false),
        (&good, ACCESS_TOKEN, &expired, false),
    ] {
        let response = ask(
            &emulator,
            &format!(
                "grant_type={EXCHANGE}&subject_token={subject}&subject_token_type={kind}\
                 &actor_token={actor}&actor_token_type={ACCESS_TOKEN}"
            ),
        )
        .await;
        if is_good {
            assert_eq!(response.action, TokenExchange);
        } else {
            assert_eq!(
                (response.action, error(&response).as_str()),
                (BadRequest, "invalid_request")
            );
        }
    }
}

#[tokio::test]
async fn a_ticket_keeps_what_the_token_request_asks_for() {
    let (emulator, authlete) = start().await;
    let form = "grant_type=password&username=a&password=b&scope=read&resource=urn:a&resource=urn:b";
    let request = token_request(&emulator, form)
        .access_token_duration(10 * SECOND)
        .refresh_token_duration(20 * SECOND);
    for (change, expected) in [(0, 10), (5, 5)] {
        let ticket = authlete.token(&request).await.unwrap().ticket.unwrap();
        let issue = TokenIssueRequest::new().ticket(ticket).subject("alice");
        let issue = issue.access_token_duration(change * SECOND);
        let issued = authlete.token_issue(&issue).await.unwrap();
        assert_eq!(issued.access_token_duration, Some(expected));
        assert_eq!(issued.refresh_token_duration, Some(20));
        assert_eq!(issued.scopes, ["read"]);
        assert_eq!(issued.access_token_resources, ["urn:a", "urn:b"]);
    }
}
