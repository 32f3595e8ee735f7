use std::time::UNIX_EPOCH;

use tower_authlete::{
    api::{
        AuthzDetails, AuthzDetailsElement, TokenListRequest, TokenUpdateAction::*,
        TokenUpdateRequest, TokenUpdateResponse,
    },
    emulator::Emulator,
};

use crate::support::{SECOND, introspect, is_good, start};

fn of(token: &str) -> TokenUpdateRequest {
    TokenUpdateRequest::new().access_token(token)
}

fn keys(response: &TokenUpdateResponse) -> Vec<&str> {
    response.properties.iter().map(|property| property.key.as_str()).collect()
}

#[tokio::test]
async fn an_update_with_nothing_to_change_tells_what_there_is() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().scopes(["read"]).property("plan", "gold").issue().await;
    let response = authlete.token_update(&of(&token)).await.unwrap();
    assert_eq!((response.action, response.token_type.as_deref()), (Ok, Some("Bearer")));
    assert_eq!(
        (&response.scopes[..], &keys(&response)[..]),
        (&["read".to_owned()][..], &["plan"][..])
    );
    assert_eq!(response.access_token.as_ref().map(|it| it.expose()), Some(token.as_str()));
    assert!(response.access_token_expires_at().unwrap() > emulator.clock().now());
}

#[tokio::test]
async fn a_token_can_be_named_in_five_ways() {
    let (emulator, authlete) = start().await;
    let pair = emulator.token().subject("alice").scopes(["a"]).issue_with_refresh().await;
    let list = authlete.token_list(&TokenListRequest::new()).await.unwrap();
    let hashes = &list.access_tokens[0];
    let id = authlete.token_update(&of(&pair.access_token)).await.unwrap().token_id.unwrap();
    let new = TokenUpdateRequest::new;
    for (number, request) in [
        new().access_token(pair.access_token.as_str()),
        new().access_token_hash(hashes.access_token_hash.clone().unwrap()),
        new().refresh_token(pair.refresh_token.as_str()),
        new().refresh_token_hash(hashes.refresh_token_hash.clone().unwrap()),
        new().token_id(id),
    ]
    .into_iter()
    .enumerate()
    {
        let scope = format!("scope{number}");
        let response = authlete.token_update(&request.scopes([&scope])).await.unwrap();
        assert_eq!(response.action, Ok);
        assert_eq!(introspect(&authlete, &pair.access_token).await.scopes, [scope]);
    }
    // The value takes precedence over the hash, and so on.
    let other = emulator.token().issue().await;
    let request = of(&other).refresh_token(pair.refresh_token.as_str()).scopes(["b"]);
    authlete.token_update(&request).await.unwrap();
    assert_eq!(introspect(&authlete, &other).await.scopes, ["b"]);
    let request = of("").refresh_token(pair.refresh_token.as_str()).scopes(["c"]);
    assert_eq!(authlete.token_update(&request).await.unwrap().scopes, ["c"]);
    let request = of("unknown").refresh_token(pair.refresh_token.as_str());
    assert_eq!(authlete.token_update(&request).await.unwrap().action, NotFound);
}

#[tokio::test]
async fn an_update_that_names_no_token_is_a_bad_request() {
    let (_emulator, authlete) = start().await;
    for request in [TokenUpdateRequest::new(), of(""), of("").refresh_token("")] {
        let response = authlete.token_update(&request).await.unwrap();
        assert_eq!(response.action, BadRequest, "{request:?}");
    }
}

#[tokio::test]
async fn an_expiry_is_set_unless_it_is_zero_or_negative() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().issue().await;
    let at = emulator.clock().now() + 50 * SECOND;
    let set = authlete.token_update(&of(&token).access_token_expires_at(at)).await.unwrap();
    let raw = set.access_token_expires_at;
    for unchanged in [UNIX_EPOCH, UNIX_EPOCH - SECOND] {
        let request = of(&token).access_token_expires_at(unchanged);
        let response = authlete.token_update(&request).await.unwrap();
        assert_eq!(response.access_token_expires_at, raw);
    }
    emulator.clock().advance(50 * SECOND);
    assert!(!is_good(&authlete, &token).await);
}

#[tokio::test]
async fn an_expired_token_that_was_not_introspected_can_be_extended() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().expires_in(SECOND).issue().await;
    emulator.clock().advance(2 * SECOND);
    // The API says nothing of the expiry being past.
    assert_eq!(authlete.token_update(&of(&token)).await.unwrap().action, Ok);
    let at = emulator.clock().now() + SECOND;
    authlete.token_update(&of(&token).access_token_expires_at(at)).await.unwrap();
    assert!(is_good(&authlete, &token).await);
}

#[tokio::test]
async fn a_new_value_ends_the_old_one() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().subject("alice").issue().await;
    let request = of(&token).access_token_value_updated(true);
    let response = authlete.token_update(&request).await.unwrap();
    let new = response.access_token.unwrap();
    assert_ne!(new.expose(), token);
    assert!(!is_good(&authlete, &token).await);
    assert_eq!(introspect(&authlete, new.expose()).await.subject.as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_token_made_persistent_ignores_an_expiry() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().issue().await;
    let at = emulator.clock().now() + SECOND;
    let request = of(&token).access_token_persistent(true).access_token_expires_at(at);
    authlete.token_update(&request).await.unwrap();
    emulator.clock().advance(1_000_000 * SECOND);
    assert!(is_good(&authlete, &token).await);
}

#[tokio::test]
async fn omitted_lists_are_left_as_they_are_and_empty_lists_empty_them() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().scopes(["read"]).property("plan", "gold").issue().await;
    let request = of(&token).access_token_expires_at(emulator.clock().now() + SECOND);
    let response = authlete.token_update(&request).await.unwrap();
    assert_eq!((response.scopes.len(), response.properties.len()), (1, 1));
    let request = of(&token).scopes([""; 0]).properties([("", ""); 0]);
    let response = authlete.token_update(&request).await.unwrap();
    assert_eq!((response.scopes.len(), response.properties.len()), (0, 0));
}

#[tokio::test]
async fn authorization_details_are_replaced_whole() {
    let (emulator, authlete) = start().await;
    let details =
        |kind: &str| AuthzDetails::new().elements([AuthzDetailsElement::new().r#type(kind)]);
    let token = emulator.token().authorization_details(details("a")).issue().await;
    let unchanged = authlete.token_update(&of(&token)).await.unwrap();
    assert_eq!(unchanged.authorization_details.unwrap().elements.len(), 1);
    let request = of(&token).authorization_details(details("b"));
    authlete.token_update(&request).await.unwrap();
    let now = introspect(&authlete, &token).await.authorization_details.unwrap();
    assert_eq!(now.elements[0].r#type.as_deref(), Some("b"));
}

#[tokio::test]
async fn scopes_that_are_not_supported_are_dropped_in_silence() {
    let emulator = Emulator::builder().scopes(["read"]).start().await.unwrap();
    let authlete = emulator.authlete();
    let token = emulator.token().issue().await;
    let request = of(&token).scopes(["read", "unheard-of"]);
    let response = authlete.token_update(&request).await.unwrap();
    assert_eq!((response.action, &response.scopes[..]), (Ok, &["read".to_owned()][..]));
}

#[tokio::test]
async fn the_shortest_duration_of_new_scopes_becomes_the_expiry() {
    let emulator = Emulator::builder()
        .clock(crate::support::clock())
        .scope_attribute("short", "access_token.duration", "60")
        .scope_attribute("shorter", "access_token.duration", "30")
        .scope_attribute("short", "refresh_token.duration", "600")
        .start()
        .await
        .unwrap();
    let authlete = emulator.authlete();
    let pair = emulator.token().scopes(["short"]).issue_with_refresh().await;
    let token = &pair.access_token;
    let left = |response: TokenUpdateResponse| {
        let at = response.access_token_expires_at().unwrap();
        at.duration_since(emulator.clock().now()).unwrap().as_secs()
    };
    let by_scope = |request: TokenUpdateRequest| {
        request
            .access_token_expires_at_updated_on_scope_update(true)
            .refresh_token_expires_at_updated_on_scope_update(true)
    };
    // The same set of scopes: nothing to take an expiry from.
    let same = by_scope(of(token).scopes(["short"]));
    assert!(left(authlete.token_update(&same).await.unwrap()) > 3500);
    // Without the flag, attributes are ignored.
    assert!(left(authlete.token_update(&of(token).scopes(["a"])).await.unwrap()) > 3500);
    let two = by_scope(of(token).scopes(["short", "shorter"]));
    let response = authlete.token_update(&two).await.unwrap();
    let refresh = response.refresh_token_expires_at().unwrap();
    assert_eq!(refresh.duration_since(emulator.clock().now()).unwrap().as_secs(), 600);
    assert_eq!(left(response), 30);
    // An explicit expiry takes precedence.
    let given =
        of(token).scopes(["short"]).access_token_expires_at(emulator.clock().now() + 5 * SECOND);
    assert_eq!(left(authlete.token_update(&by_scope(given)).await.unwrap()), 5);
}

#[tokio::test]
async fn thumbprints_bind_the_token() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().issue().await;
    let request = of(&token).certificate_thumbprint("abc");
    let response = authlete.token_update(&request).await.unwrap();
    assert_eq!(response.token_type.as_deref(), Some("Bearer"));
    assert!(!is_good(&authlete, &token).await);
    let token = emulator.token().issue().await;
    let response = authlete.token_update(&of(&token).dpop_key_thumbprint("abc")).await.unwrap();
    assert_eq!(response.token_type.as_deref(), Some("DPoP"));
    assert!(!is_good(&authlete, &token).await);
}

#[tokio::test]
async fn the_refresh_tokens_expiry_can_be_set() {
    let (emulator, authlete) = start().await;
    let pair = emulator.token().issue_with_refresh().await;
    let at = emulator.clock().now() + SECOND;
    let request = of(&pair.access_token).refresh_token_expires_at(at);
    authlete.token_update(&request).await.unwrap();
    assert!(introspect(&authlete, &pair.access_token).await.refreshable);
    emulator.clock().advance(SECOND);
    assert!(!introspect(&authlete, &pair.access_token).await.refreshable);
}

#[tokio::test]
async fn a_token_can_be_marked_for_an_external_attachment() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().issue().await;
    assert!(!introspect(&authlete, &token).await.for_external_attachment);
    authlete.token_update(&of(&token).for_external_attachment(true)).await.unwrap();
    assert!(introspect(&authlete, &token).await.for_external_attachment);
}
