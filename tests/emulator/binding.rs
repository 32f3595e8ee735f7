//! `/auth/token` binds tokens to keys and certificates.

use serde_json::{Value, json};
use tower_authlete::{
    Authlete,
    api::{
        IntrospectionAction, IntrospectionRequest, TokenAction::*, TokenIssueRequest, TokenRequest,
        TokenResponse,
    },
    emulator::Emulator,
};

use crate::{
    dpop::Key,
    introspection::thumbprint,
    support::{clock, introspect, start, token_request},
};

const URI: &str = "https://as.example.com/token";

fn proof(key: &Key, changes: Value) -> String {
    let mut claims = json!({ "htm": "POST", "htu": URI });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    key.proof(claims)
}

fn request(emulator: &Emulator, parameters: &str, proof: &str) -> TokenRequest {
    token_request(emulator, parameters).dpop(proof).htu(URI)
}

fn content(response: &TokenResponse) -> Value {
    serde_json::from_str(response.response_content.as_ref().unwrap().expose()).unwrap()
}

/// Whether the token is valid with a proof of this key, and not without one.
async fn is_bound(authlete: &Authlete, token: &str, key: &Key) -> bool {
    let request = IntrospectionRequest::new().token(token).dpop(key.proof_for(token, json!({})));
    let request = request.htm("GET").htu("https://api.example.com/x");
    let with = authlete.introspection(&request).await.unwrap().action;
    let without = introspect(authlete, token).await.action;
    with == IntrospectionAction::Ok && without == IntrospectionAction::Unauthorized
}

#[tokio::test]
async fn a_proof_binds_the_token_to_its_key() {
    let (emulator, authlete) = start().await;
    let key = Key::es256();
    let with_proof = request(
        &emulator,
        "grant_type=client_credentials",
        &proof(&key, json!({ "htu": format!("{URI}?a=b") })),
    );
    let response = authlete.token(&with_proof).await.unwrap();
    assert_eq!((response.action, &content(&response)["token_type"]), (Ok, &"DPoP".into()));
    assert_eq!(response.dpop_nonce, None);
    assert!(is_bound(&authlete, response.access_token.unwrap().expose(), &key).await);
    let again = authlete.token(&with_proof).await.unwrap();
    assert_eq!(
        (again.action, &content(&again)["error"]),
        (BadRequest, &"invalid_dpop_proof".into())
    );
    let bare = token_request(&emulator, "grant_type=client_credentials");
    let bare = authlete.token(&bare).await.unwrap();
    assert_eq!((bare.action, &content(&bare)["token_type"]), (Ok, &"Bearer".into()));
}

#[tokio::test]
async fn a_proof_that_is_wrong_is_a_bad_request() {
    let (emulator, authlete) = start().await;
    let key = Key::es256();
    let good = proof(&key, json!({}));
    let form = "grant_type=client_credentials";
    for request in [
        request(&emulator, form, ""),
        request(&emulator, form, "nonsense"),
        request(&emulator, form, &good[1..]),
        request(&emulator, form, &proof(&key, json!({ "htm": "GET" }))),
        request(&emulator, form, &proof(&key, json!({ "iat": 1 }))),
        request(&emulator, form, &good).htm("GET"),
        request(&emulator, form, &good).htu("https://as.example.com/"),
        token_request(&emulator, form).dpop(&good),
    ] {
        let response = authlete.token(&request).await.unwrap();
        assert_eq!(response.action, BadRequest, "{request:?}");
        assert_eq!(content(&response)["error"], "invalid_dpop_proof", "{request:?}");
        assert!(response.access_token.is_none());
    }
    let stranger = request(&emulator, form, &good).client_secret("wrong");
    assert_eq!(authlete.token(&stranger).await.unwrap().action, InvalidClient);
    assert_eq!(authlete.token(&request(&emulator, form, &good)).await.unwrap().action, Ok);
}

#[tokio::test]
async fn a_ticket_keeps_the_key() {
    let (emulator, authlete) = start().await;
    let key = Key::es256();
    let form = "grant_type=password&username=a&password=b";
    let request = request(&emulator, form, &proof(&key, json!({})));
    let ticket = authlete.token(&request).await.unwrap().ticket.unwrap();
    let issue = TokenIssueRequest::new().ticket(ticket).subject("alice");
    let issued = authlete.token_issue(&issue).await.unwrap();
    let body: Value = serde_json::from_str(issued.response_content.unwrap().expose()).unwrap();
    assert_eq!(body["token_type"], "DPoP");
    assert!(is_bound(&authlete, issued.access_token.unwrap().expose(), &key).await);
}

#[tokio::test]
async fn a_refresh_binds_anew_or_keeps_the_key() {
    let (emulator, authlete) = start().await;
    let [old, new] = [Key::es256(), Key::es256()];
    let pair = emulator.token().dpop_key_thumbprint(old.thumbprint()).issue_with_refresh().await;
    let form = |token: &str| format!("grant_type=refresh_token&refresh_token={token}");
    let kept = token_request(&emulator, &form(&pair.refresh_token));
    let kept = authlete.token(&kept).await.unwrap();
    assert!(is_bound(&authlete, kept.access_token.unwrap().expose(), &old).await);
    let refresh = form(kept.refresh_token.unwrap().expose());
    let anew = request(&emulator, &refresh, &proof(&new, json!({})));
    let anew = authlete.token(&anew).await.unwrap();
    assert!(is_bound(&authlete, anew.access_token.unwrap().expose(), &new).await);
}

#[tokio::test]
async fn a_nonce_is_asked_for_and_told() {
    let emulator = Emulator::builder().clock(clock()).dpop_nonce("one").start().await.unwrap();
    let authlete = emulator.authlete();
    let key = Key::es256();
    let ask = async |nonce: &str| {
        let proof = proof(&key, json!({ "nonce": nonce }));
        let request = request(&emulator, "grant_type=client_credentials", &proof);
        let response = authlete.token(&request).await.unwrap();
        let error = content(&response)["error"].as_str().unwrap_or_default().to_owned();
        (response.action, error, response.dpop_nonce)
    };
    let told = |nonce: &str| Some(nonce.to_owned());
    assert_eq!(ask("").await, (BadRequest, "use_dpop_nonce".into(), told("one")));
    assert_eq!(ask("one").await, (Ok, String::new(), told("one")));
    emulator.set_dpop_nonce(Some("two".into()));
    assert_eq!(ask("one").await, (Ok, String::new(), told("two")));
    assert_eq!(ask("one").await, (BadRequest, "use_dpop_nonce".into(), told("two")));
    emulator.set_dpop_nonce(None);
    let proof = proof(&key, json!({}));
    let strict = request(&emulator, "grant_type=client_credentials", &proof);
    let response = authlete.token(&strict.dpop_nonce_required(true)).await.unwrap();
    assert_eq!(content(&response)["error"], "use_dpop_nonce");
    assert_eq!(ask(&response.dpop_nonce.unwrap()).await.0, Ok);
}

#[tokio::test]
async fn a_certificate_binds_the_token_if_that_is_set() {
    let pem = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap().cert.pem();
    for is_set in [false, true] {
        let emulator = Emulator::builder().certificate_bound_tokens(is_set).start().await.unwrap();
        let authlete = emulator.authlete();
        let form = "grant_type=client_credentials";
        let request = token_request(&emulator, form).client_certificate(&pem);
        let issued = authlete.token(&request).await.unwrap();
        assert_eq!(content(&issued)["token_type"], "Bearer");
        let token = issued.access_token.unwrap();
        let bare = introspect(&authlete, token.expose()).await;
        assert_eq!(bare.action == IntrospectionAction::Unauthorized, is_set);
        assert_eq!(bare.certificate_thumbprint, is_set.then(|| thumbprint(&pem)));
        let request = IntrospectionRequest::new().token(token).client_certificate(&pem);
        let shown = authlete.introspection(&request).await.unwrap();
        assert_eq!(shown.action, IntrospectionAction::Ok);
        let nonsense = token_request(&emulator, form).client_certificate("nonsense");
        let action = if is_set { BadRequest } else { Ok };
        assert_eq!(authlete.token(&nonsense).await.unwrap().action, action);
        let without = authlete.token(&token_request(&emulator, form)).await.unwrap();
        assert_eq!(without.action, Ok);
    }
}
