//! Cache entries of tokens that an endpoint issues.

use serde_json::json;
use tower_authlete::{
    api::TokenUpdateRequest,
    emulator::{Api, Fault},
    lifecycle::ExtendLifetime,
};

use crate::{
    authorization_server::{PASSWORD, Server, basic_of, refresh, spawn_post, tokens_of},
    support::{Bench, OK, SECOND, UNAUTHORIZED},
    transports::Gate,
};

const CLIENT_CREDENTIALS: &str = "grant_type=client_credentials&scope=read";
const CODE: &str = "grant_type=authorization_code&code=x";

/// A token that is revoked elsewhere before the response of its issue arrives.
async fn revoked_at_birth(bench: &Bench, server: &Server<'_>, meanwhile: impl FnOnce()) -> String {
    let hold = bench.authlete.hold(Api::Token);
    let issued = spawn_post(server, "/token", CLIENT_CREDENTIALS);
    bench.authlete.arrived(Api::Token, 1).await;
    assert_eq!(bench.revoke_all().await, 1);
    meanwhile();
    hold.release();
    tokens_of(&issued.await.unwrap()).0
}

#[tokio::test]
async fn an_issued_token_is_not_cached_after_forget_all() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let token = revoked_at_birth(&bench, &server, || server.api.handle.forget_all()).await;
    assert_eq!(server.api.get(&token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn the_age_of_an_issued_token_counts_from_when_its_call_was_made() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let token = revoked_at_birth(&bench, &server, || bench.clock.advance(2 * SECOND)).await;
    bench.clock.advance(58 * SECOND);
    assert_eq!(server.api.get(&token).await.status, UNAUTHORIZED);
}

/// From then on Authlete answers token requests with this access token and refresh token, as a service
/// does that keeps refresh tokens.
async fn answers_a_pair(bench: &Bench) -> (String, String) {
    let pair = bench.authlete.token().client_id(bench.authlete.client_id()).subject("alice");
    let pair = pair.issue_with_refresh().await;
    let (access_token, refresh) = (pair.access_token.as_str(), pair.refresh_token.as_str());
    let content = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "refresh_token": refresh,
        "expires_in": 3600,
    });
    let answer = json!({
        "action": "OK",
        "responseContent": content.to_string(),
        "accessToken": access_token,
        "refreshToken": refresh,
        "subject": "alice",
    });
    bench.authlete.fault(Fault::json(answer).on(Api::Token));
    (access_token.to_owned(), refresh.to_owned())
}

#[tokio::test]
async fn an_issued_token_is_not_cached_after_its_refresh_token_is_revoked() {
    let bench = Bench::new().await;
    let (authlete, gate) = Gate::before(&bench, "/auth/token");
    let server = Server::calling_by(&bench, &authlete);
    let (access_token, refresh) = answers_a_pair(&bench).await;
    let issued = spawn_post(&server, "/token", CODE);
    gate.holds().await;
    assert_eq!(server.post("/revoke", &format!("token={refresh}")).await.status, OK);
    gate.open();
    assert_eq!(tokens_of(&issued.await.unwrap()).0, access_token);
    assert_eq!(server.api.get(&access_token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn the_access_token_of_a_refresh_token_is_found_after_a_handler_gave_it_a_new_value() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let (access_token, refresh) = answers_a_pair(&bench).await;
    assert_eq!(server.post("/token", CODE).await.status, OK);
    let change = TokenUpdateRequest::new().access_token_value_updated(true);
    let told = server.api.handle.update(&access_token, change).await.unwrap();
    let new = told.access_token.unwrap();
    assert_eq!(server.api.get(new.expose()).await.status, OK);
    assert_eq!(server.post("/revoke", &format!("token={refresh}")).await.status, OK);
    assert_eq!(server.api.get(new.expose()).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn a_stranger_does_not_keep_issued_tokens_out_of_the_cache() {
    let bench = Bench::new().await;
    let server = Server::new(&bench);
    let stranger = basic_of("a", "b");
    let hold = bench.authlete.hold(Api::Token);
    let issued = spawn_post(&server, "/token", CLIENT_CREDENTIALS);
    bench.authlete.arrived(Api::Token, 1).await;
    let headers = [("authorization", &*stranger)];
    let answer = server.post_with("/revoke", "token=nonsense", &headers).await;
    assert_eq!(answer.status, UNAUTHORIZED);
    hold.release();
    let token = tokens_of(&issued.await.unwrap()).0;
    assert_eq!(server.api.get(&token).await.status, OK);
    assert_eq!(bench.introspections(), 0);
}

#[tokio::test]
async fn the_longest_life_of_an_issued_token_begins_with_its_issue() {
    let bench = Bench::new().await;
    let server = Server::with(&bench, |layer| {
        let extension = ExtendLifetime::new().when_below(600 * SECOND).to(900 * SECOND);
        layer.extend_lifetime(extension.never_beyond(3600 * SECOND).wait())
    });
    // Its life is 3600 s, and so is that of the refreshed token.
    let (_, used) = server.tokens(PASSWORD).await;
    let (refreshed, _) = server.tokens(&refresh(&used)).await;
    let (issued, _) = server.tokens(PASSWORD).await;
    bench.clock.advance(3100 * SECOND);
    for token in [issued, refreshed] {
        assert_eq!(server.api.get(&token).await.status, OK);
    }
    assert_eq!(bench.updates(), 0);
}
