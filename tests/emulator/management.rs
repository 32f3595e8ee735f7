use tower_authlete::api::{
    RevocationAction, RevocationRequest, TokenListRequest, TokenRevokeRequest,
};

use crate::support::{introspect, is_good, start, token_request};

#[tokio::test]
async fn tokens_are_revoked_by_value_or_hash_of_either_of_a_pair() {
    let (emulator, authlete) = start().await;
    for way in 0..4 {
        let pair = emulator.token().subject("alice").issue_with_refresh().await;
        let list = authlete.token_list(&TokenListRequest::new()).await.unwrap();
        let hashes = list.access_tokens[0].clone();
        let request = TokenRevokeRequest::new();
        let request = match way {
            0 => request.access_token_identifier(pair.access_token.as_str()),
            1 => request.access_token_identifier(hashes.access_token_hash.unwrap()),
            2 => request.refresh_token_identifier(pair.refresh_token.as_str()),
            _ => request.refresh_token_identifier(hashes.refresh_token_hash.unwrap()),
        };
        assert_eq!(authlete.token_revoke(&request).await.unwrap().count, Some(1));
        assert!(!is_good(&authlete, &pair.access_token).await);
        let refresh = format!("grant_type=refresh_token&refresh_token={}", pair.refresh_token);
        let response = authlete.token(&token_request(&emulator, &refresh)).await.unwrap();
        assert!(response.access_token.is_none());
        assert_eq!(authlete.token_revoke(&request).await.unwrap().count, Some(0));
    }
}

#[tokio::test]
async fn all_tokens_of_a_client_or_subject_are_revoked_together() {
    let (emulator, authlete) = start().await;
    let issue = async |subject: &str, client: i64| {
        emulator.token().subject(subject).client_id(client).issue().await
    };
    let ours = emulator.client_id();
    let tokens = [issue("alice", ours).await, issue("alice", 1).await, issue("bob", ours).await];
    let request = TokenRevokeRequest::new().subject("alice").client_identifier("my-client");
    assert_eq!(authlete.token_revoke(&request).await.unwrap().count, Some(1));
    assert!(!is_good(&authlete, &tokens[0]).await);
    assert!(is_good(&authlete, &tokens[1]).await && is_good(&authlete, &tokens[2]).await);
    let request = TokenRevokeRequest::new().subject("alice");
    assert_eq!(authlete.token_revoke(&request).await.unwrap().count, Some(1));
    let request = TokenRevokeRequest::new().client_identifier(ours.to_string());
    assert_eq!(authlete.token_revoke(&request).await.unwrap().count, Some(1));
    // A request that names no tokens does not revoke all.
    assert!(authlete.token_revoke(&TokenRevokeRequest::new()).await.unwrap_err().is_our_fault());
}

#[tokio::test]
async fn a_token_is_deleted_by_value_or_hash() {
    let (emulator, authlete) = start().await;
    let token = emulator.token().value("a/b+c=").issue().await;
    authlete.token_delete(&token).await.unwrap();
    assert!(!is_good(&authlete, &token).await);
    assert!(authlete.token_delete(&token).await.is_err());
    emulator.token().issue().await;
    let list = authlete.token_list(&TokenListRequest::new()).await.unwrap();
    let hash = list.access_tokens[0].access_token_hash.clone().unwrap();
    authlete.token_delete(&hash).await.unwrap();
    let list = authlete.token_list(&TokenListRequest::new()).await.unwrap();
    assert_eq!(list.total_count, Some(0));
}

#[tokio::test]
async fn a_list_has_pages_and_tells_no_values() {
    let (emulator, authlete) = start().await;
    for number in 0..8 {
        let subject = if number % 2 == 0 { "alice" } else { "bob" };
        emulator.token().value(format!("value{number}")).subject(subject).issue().await;
    }
    let list = authlete.token_list(&TokenListRequest::new()).await.unwrap();
    assert_eq!((list.start, list.end, list.total_count), (Some(0), Some(5), Some(8)));
    assert_eq!(list.access_tokens.len(), 5);
    let request = TokenListRequest::new().subject("alice").start(1).end(3);
    let list = authlete.token_list(&request).await.unwrap();
    assert_eq!((list.access_tokens.len(), list.total_count), (2, Some(4)));
    assert!(list.access_tokens.iter().all(|it| it.subject.as_deref() == Some("alice")));
    let request = TokenListRequest::new().client_identifier("my-client");
    let list = authlete.token_list(&request).await.unwrap();
    assert_eq!(list.client.as_ref().unwrap().client_id, Some(emulator.client_id()));
    assert!(!serde_json::to_string(&list).unwrap().contains("value"));
}

#[tokio::test]
async fn a_client_revokes_its_own_tokens_only() {
    let (emulator, authlete) = start().await;
    let ours = emulator.token().issue_with_refresh().await;
    let theirs = emulator.token().client_id(1).issue().await;
    let request = |token: &str, secret: &str| {
        RevocationRequest::new()
            .parameters(format!("token={token}&token_type_hint=access_token"))
            .client_id(emulator.client_id().to_string())
            .client_secret(secret)
    };
    let revoke =
        async |request: RevocationRequest| authlete.revocation(&request).await.unwrap().action;
    let secret = emulator.client_secret();
    let wrong = revoke(request(&ours.access_token, "wrong")).await;
    assert_eq!(wrong, RevocationAction::InvalidClient);
    assert_eq!(revoke(request("", secret)).await, RevocationAction::BadRequest);
    assert!(is_good(&authlete, &ours.access_token).await);
    // RFC 7009 §2.2: an unknown token is no error.
    assert_eq!(revoke(request("unknown", secret)).await, RevocationAction::Ok);
    assert_eq!(revoke(request(&theirs, secret)).await, RevocationAction::Ok);
    assert!(is_good(&authlete, &theirs).await);
    assert_eq!(revoke(request(&ours.refresh_token, secret)).await, RevocationAction::Ok);
    assert!(introspect(&authlete, &ours.access_token).await.subject.is_none());
    assert!(!is_good(&authlete, &ours.access_token).await);
}
