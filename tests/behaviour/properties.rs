//! Properties of a token as a type of the handler's.

use axum::{Router, routing::get};
use http::StatusCode;
use serde::Deserialize;
use tower_authlete::{
    ProblemDetails,
    axum::{ExtractError, TokenProperties},
};

use crate::support::{Bench, Protected, UNAUTHORIZED};

#[derive(Deserialize)]
struct Account {
    plan: String,
    seats: u32,
}

async fn account(TokenProperties(account): TokenProperties<Account>) -> String {
    format!("{} {}", account.plan, account.seats)
}

async fn maybe(account: Option<TokenProperties<Account>>) -> String {
    account.map_or("nobody".into(), |TokenProperties(account)| account.plan)
}

async fn wrong(account: Result<TokenProperties<Account>, ExtractError>) -> String {
    let error = account.unwrap_err();
    format!("{error:?} {}", error.properties_error().unwrap())
}

async fn api(bench: &Bench) -> Protected {
    let routes = Router::new()
        .route("/", get(account))
        .route("/maybe", get(maybe))
        .route("/wrong", get(wrong));
    let auth = bench.layer().realm("api").optional().renderer(ProblemDetails);
    Protected::with_routes(&auth.build().unwrap(), routes)
}

#[tokio::test]
async fn properties_are_extracted_as_a_type() {
    let bench = Bench::new().await;
    let api = api(&bench).await;
    let token = bench.authlete.token().property("plan", "gold").hidden_property("seats", "5");
    let token = token.issue().await;
    assert_eq!(api.get(&token).await.body, "gold 5");
    assert_eq!(api.get_at("/maybe", &token).await.body, "gold");
    assert_eq!(api.send_at("/maybe", &[]).await.body, "nobody");
    assert_eq!(api.send_at("/", &[]).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn properties_of_another_type_are_403_and_no_value_is_told() {
    let bench = Bench::new().await;
    let api = api(&bench).await;
    let token = || bench.authlete.token().property("plan", "gold");
    let bad = token().hidden_property("seats", "sesame").issue().await;
    for token in [bad, token().issue().await] {
        for path in ["/", "/maybe"] {
            let answer = api.get_at(path, &token).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
            assert!(answer.body.contains("access_denied"), "as the layer renders: {answer:?}");
            assert!(!answer.body.contains("seats") && !answer.body.contains("sesame"));
        }
        let told = api.get_at("/wrong", &token).await.body;
        assert!(told.contains("\"seats\"") && !told.contains("sesame"), "{told}");
    }
}
