use std::time::Duration;

use tower_authlete::{
    api::{GrantType, TokenCreateAction::*, TokenCreateRequest},
    emulator::Emulator,
};

use crate::support::{introspect, start};

fn request(emulator: &Emulator) -> TokenCreateRequest {
    TokenCreateRequest::new()
        .grant_type(GrantType::AuthorizationCode)
        .client_id(emulator.client_id())
        .subject("alice")
}

#[tokio::test]
async fn a_token_is_made_as_asked() {
    let (emulator, authlete) = start().await;
    let request = request(&emulator)
        .scopes(["read"])
        .access_token_duration(Duration::from_secs(60))
        .properties([("plan", "gold")])
        .resources(["https://api.example.com"])
        .acr("gold")
        .auth_time(emulator.clock().now())
        .session_id("session")
        .for_external_attachment(true)
        .client_id_alias_used(true);
    let created = authlete.token_create(&request).await.unwrap();
    assert_eq!((created.action, created.token_type.as_deref()), (Ok, Some("Bearer")));
    assert_eq!(created.expires_in, Some(60));
    assert_eq!(created.subject.as_deref(), Some("alice"));
    assert_eq!(created.session_id.as_deref(), Some("session"));
    assert!(created.refresh_token.is_some());
    let facts = introspect(&authlete, created.access_token.unwrap().expose()).await;
    assert_eq!(facts.scopes, ["read"]);
    assert_eq!(facts.expires_at, created.expires_at);
    assert_eq!(facts.properties[0].value, "gold");
    assert_eq!(facts.access_token_resources, ["https://api.example.com"]);
    assert_eq!(facts.acr.as_deref(), Some("gold"));
    assert!(facts.auth_time.is_some() && facts.for_external_attachment);
    assert!(facts.client_id_alias_used && facts.refreshable);
}

#[tokio::test]
async fn missing_and_unsupported_parameters_are_a_bad_request() {
    let emulator = Emulator::builder().scopes(["read"]).start().await.unwrap();
    let authlete = emulator.authlete();
    let whole = || request(&emulator);
    let without = |change: fn(&mut TokenCreateRequest)| {
        let mut request = whole();
        change(&mut request);
        request
    };
    for (request, action) in [
        (whole(), Ok),
        (without(|it| it.grant_type = None), BadRequest),
        (without(|it| it.client_id = None), BadRequest),
        (whole().client_id(1), BadRequest),
        (without(|it| it.subject = None), BadRequest),
        (without(|it| it.client_id = None).client_identifier("my-client"), Ok),
        (whole().client_identifier("unknown"), BadRequest),
        (whole().scopes(["read"]), Ok),
        (whole().scopes(["read", "unheard-of"]), BadRequest),
    ] {
        let created = authlete.token_create(&request).await.unwrap();
        assert_eq!(created.action, action, "{request:?}");
        assert_eq!(created.access_token.is_some(), action == Ok);
    }
}

#[tokio::test]
async fn client_credentials_have_no_user_and_no_refresh_token() {
    let (emulator, authlete) = start().await;
    let request = request(&emulator).grant_type(GrantType::ClientCredentials);
    let created = authlete.token_create(&request).await.unwrap();
    assert!(created.refresh_token.is_none() && created.subject.is_none());
    let request = self::request(&emulator).grant_type(GrantType::Implicit);
    assert!(authlete.token_create(&request).await.unwrap().refresh_token.is_none());
}

#[tokio::test]
async fn values_can_be_chosen_once() {
    let (emulator, authlete) = start().await;
    let chosen = || request(&emulator).access_token("mine").refresh_token("mine-too");
    let created = authlete.token_create(&chosen()).await.unwrap();
    assert_eq!(created.access_token.unwrap().expose(), "mine");
    assert_eq!(created.refresh_token.unwrap().expose(), "mine-too");
    assert_eq!(authlete.token_create(&chosen()).await.unwrap().action, BadRequest);
    let other = chosen().access_token("another");
    assert_eq!(authlete.token_create(&other).await.unwrap().action, BadRequest);
}

#[tokio::test]
async fn a_token_can_be_persistent_or_bound() {
    let (emulator, authlete) = start().await;
    let persistent = request(&emulator).access_token_persistent(true);
    assert_eq!(authlete.token_create(&persistent).await.unwrap().expires_at, Some(0));
    let bound = request(&emulator).dpop_key_thumbprint("abc");
    let created = authlete.token_create(&bound).await.unwrap();
    assert_eq!(created.token_type.as_deref(), Some("DPoP"));
}
