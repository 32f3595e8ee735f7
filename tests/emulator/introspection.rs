use tower_authlete::{
    api::{AuthzDetails, AuthzDetailsElement, IntrospectionAction::*, IntrospectionRequest},
    emulator::Emulator,
};

use crate::support::{SECOND, introspect, is_good, start};

#[tokio::test]
async fn a_good_token_is_ok_and_told_all_about() {
    let (emulator, authlete) = start().await;
    let now = emulator.clock().now();
    let details = AuthzDetails::new().elements([AuthzDetailsElement::new().r#type("payment")]);
    let token = emulator
        .token()
        .subject("alice")
        .scopes(["read"])
        .property("plan", "gold")
        .hidden_property("risk", "low")
        .resources(["https://api.example.com"])
        .acr("gold")
        .auth_time(now)
        .authorization_details(details)
        .expires_in(60 * SECOND)
        .issue_with_refresh()
        .await;
    let response = introspect(&authlete, &token.access_token).await;
    assert_eq!(response.action, Ok);
    assert_eq!(response.result_code.as_deref(), Some("A056001"));
    assert_eq!(response.response_content.as_deref(), Some("Bearer error=\"invalid_request\""));
    assert_eq!(response.subject.as_deref(), Some("alice"));
    assert_eq!(response.scopes, ["read"]);
    assert_eq!(response.scope_details[0].name.as_deref(), Some("read"));
    assert_eq!(response.client_id, Some(emulator.client_id()));
    assert!(response.existent && response.usable && response.sufficient && response.refreshable);
    let properties: Vec<_> =
        response.properties.iter().map(|it| (it.key.as_str(), it.hidden)).collect();
    assert_eq!(properties, [("plan", false), ("risk", true)]);
    assert_eq!(response.access_token_resources, ["https://api.example.com"]);
    assert_eq!(response.acr.as_deref(), Some("gold"));
    assert!(response.auth_time().unwrap() <= now);
    assert_eq!(response.authorization_details.unwrap().elements.len(), 1);
}

#[tokio::test]
async fn an_expired_token_is_deleted_at_first_sight() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().expires_in(10 * SECOND).issue().await;
    assert!(is_good(&authlete, &token).await);
    emulator.clock().advance(10 * SECOND);
    let first = introspect(&authlete, &token).await;
    assert_eq!(first.action, Unauthorized);
    assert_eq!(first.result_code.as_deref(), Some("A057302"));
    let second = introspect(&authlete, &token).await;
    assert_eq!(second.action, Unauthorized);
    assert_eq!(second.result_code.as_deref(), Some("A057301"));
}

#[tokio::test]
async fn a_persistent_token_does_not_expire() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().persistent().issue().await;
    emulator.clock().advance(1_000_000_000 * SECOND);
    let response = introspect(&authlete, &token).await;
    assert_eq!((response.action, response.expires_at), (Ok, Some(0)));
}

#[tokio::test]
async fn what_an_introspection_asks_for_is_checked() {
    let (emulator, authlete) = start().await;
    let now = emulator.clock().now();
    let token = emulator
        .token()
        .subject("alice")
        .scopes(["read"])
        .resources(["a"])
        .acr("gold")
        .auth_time(now - 100 * SECOND)
        .issue()
        .await;
    let request = || IntrospectionRequest::new().token(token.as_str());
    for (request, action, error) in [
        (IntrospectionRequest::new(), BadRequest, "invalid_request"),
        (request().scopes(["read"]), Ok, ""),
        (request().scopes(["read", "write"]), Forbidden, "scope=\"read write\""),
        (request().subject("alice"), Ok, ""),
        (request().subject("bob"), Forbidden, "invalid_request"),
        (request().resources(["a"]), Ok, ""),
        (request().resources(["a", "b"]), Forbidden, "invalid_target"),
        (request().acr_values(["silver", "gold"]), Ok, ""),
        (request().acr_values(["silver"]), Unauthorized, "acr_values=\"silver\""),
        (request().max_age(101 * SECOND), Ok, ""),
        (request().max_age(99 * SECOND), Unauthorized, "max_age=\"99\""),
    ] {
        let response = authlete.introspection(&request).await.unwrap();
        assert_eq!(response.action, action, "{request:?}");
        if action != Ok {
            assert!(response.response_content.unwrap().contains(error), "{request:?}");
        }
    }
}

#[tokio::test]
async fn a_token_can_ask_for_signed_responses() {
    let (emulator, authlete) = start().await;
    let strict = emulator.token().response_signing_required().issue().await;
    assert!(introspect(&authlete, &strict).await.response_signing_required);
    let plain = emulator.token().issue().await;
    assert!(!introspect(&authlete, &plain).await.response_signing_required);
}

#[tokio::test]
async fn a_scope_that_the_service_does_not_know_is_not_checked() {
    let emulator = Emulator::builder().scopes(["read"]).start().await.unwrap();
    let authlete = emulator.authlete();
    let token = emulator.token().issue().await;
    let request = IntrospectionRequest::new().token(token).scopes(["unheard-of"]);
    assert_eq!(authlete.introspection(&request).await.unwrap().action, Ok);
}

#[tokio::test]
async fn a_bound_token_takes_its_certificate() {
    let (emulator, authlete) = start().await;
    let [ours, theirs] = ["ours", "theirs"].map(|name| {
        let key = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        key.cert.pem()
    });
    let token = emulator.token().certificate_thumbprint(thumbprint(&ours)).issue().await;
    let request = || IntrospectionRequest::new().token(token.as_str());
    for (request, action) in [
        (request().client_certificate(ours), Ok),
        (request().client_certificate(theirs), Unauthorized),
        (request().client_certificate("nonsense"), Unauthorized),
        (request(), Unauthorized),
    ] {
        assert_eq!(authlete.introspection(&request).await.unwrap().action, action);
    }
}

/// `x5t#S256` of a certificate, by other means than the emulator's.
pub(crate) fn thumbprint(pem: &str) -> String {
    use base64::Engine;
    use sha2::Digest;
    use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(&der))
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_does_not_pass_as_bearer() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().dpop_key_thumbprint("abc").issue().await;
    let request = || IntrospectionRequest::new().token(token.as_str());
    for request in [request(), request().dpop("proof")] {
        assert_eq!(authlete.introspection(&request).await.unwrap().action, Unauthorized);
    }
}
