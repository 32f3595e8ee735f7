//! What the inner service gets.

use std::time::{Duration, UNIX_EPOCH};

use axum::{
    Router,
    body::Body,
    extract::Request,
    routing::{MethodFilter, get, on},
};
use http::StatusCode;
use serde::Deserialize;
use tower_authlete::{
    AuthLayer, Properties, Scopes, TokenInfo,
    api::{AuthzDetails, AuthzDetailsElement, GrantType},
};

use crate::support::{Bench, Protected, send};

/// The facts that the inner service gets.
async fn seen(bench: &Bench, token: &str) -> TokenInfo {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let handler = move |request: Request| async move {
        let extensions = request.extensions();
        let token = extensions.get::<TokenInfo>().unwrap();
        assert_eq!(extensions.get::<Scopes>(), Some(token.scopes()));
        assert_eq!(extensions.get::<Properties>(), Some(token.properties()));
        sender.send(token.clone()).await.unwrap();
    };
    let router = Router::new()
        .route("/", on(MethodFilter::GET, handler))
        .layer(bench.layer().build().unwrap());
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    let answer = send(router, request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    receiver.recv().await.unwrap()
}

#[tokio::test]
async fn all_facts_of_a_token_are_there() {
    let bench = Bench::new().await;
    let now = bench.clock.now();
    let element = AuthzDetailsElement::new()
        .r#type("payment_initiation")
        .actions(["initiate"])
        .other_fields(r#"{"amount":"123.50"}"#);
    let token = bench
        .authlete
        .token()
        .subject("alice")
        .scopes(["read", "write"])
        .resources(["https://api.example.com"])
        .acr("gold")
        .auth_time(now - Duration::from_secs(60))
        .grant_type(GrantType::DeviceCode)
        .authorization_details(AuthzDetails::new().elements([element]))
        .expires_in(Duration::from_secs(100))
        .issue()
        .await;
    let token = seen(&bench, &token).await;
    assert_eq!(token.subject(), Some("alice"));
    assert_eq!(token.client_id(), Some(bench.authlete.client_id()));
    assert_eq!(token.client_id_alias(), Some(bench.authlete.client_id_alias()));
    assert_eq!(token.scopes().to_string(), "read write");
    assert_eq!(token.audience(), ["https://api.example.com"]);
    assert_eq!(token.acr(), Some("gold"));
    assert!(token.auth_age(now).unwrap() >= Duration::from_secs(60));
    assert_eq!(token.grant_type(), Some(&GrantType::DeviceCode));
    let millis = |at: std::time::SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_millis();
    let expected = millis(now + Duration::from_secs(100));
    assert_eq!(token.expires_at().map(millis), Some(expected));

    #[derive(Deserialize)]
    struct Payment {
        amount: String,
    }
    let [details] = token.authorization_details() else { panic!("{token:?}") };
    assert_eq!(details.r#type.as_deref(), Some("payment_initiation"));
    assert_eq!(details.other_fields_as::<Payment>().unwrap().amount, "123.50");
    assert!(token.introspection().unwrap().existent);
    assert!(token.update().is_none());
}

#[tokio::test]
async fn properties_know_which_are_hidden_and_fit_a_type() {
    #[derive(Deserialize, PartialEq, Debug)]
    struct Account {
        plan: String,
        seats: u32,
        trial: Option<bool>,
    }
    let bench = Bench::new().await;
    let token =
        bench.authlete.token().property("plan", "gold & more").hidden_property("seats", "5");
    let token = seen(&bench, &token.issue().await).await;
    let properties = token.properties();
    assert_eq!(properties.get("seats"), Some("5"));
    assert!(properties.is_hidden("seats") && !properties.is_hidden("plan"));
    assert_eq!(properties.visible().collect::<Vec<_>>(), [("plan", "gold & more")]);
    let expected = Account { plan: "gold & more".into(), seats: 5, trial: None };
    assert_eq!(properties.deserialize::<Account>().unwrap(), expected);
    #[derive(Deserialize, Debug)]
    struct Other {
        #[expect(dead_code)]
        plan: u32,
    }
    let error = properties.deserialize::<Other>().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("gold"));
}

#[tokio::test]
async fn a_token_without_facts_has_none() {
    let bench = Bench::new().await;
    let token = seen(&bench, &bench.authlete.token().persistent().issue().await).await;
    assert_eq!(token.subject(), None);
    assert!(token.scopes().is_empty());
    assert_eq!(token.properties().iter().len(), 0);
    assert_eq!(token.expires_at(), None);
    assert!(token.audience().is_empty() && token.authorization_details().is_empty());
}

/// Routes with extractors, and with optional ones.
fn extracting() -> Router {
    Router::new()
        .route("/token", get(|_: TokenInfo| async {}))
        .route("/scopes", get(|_: Scopes| async {}))
        .route("/properties", get(|_: Properties| async {}))
        .route("/optional/token", get(|it: Option<TokenInfo>| async move { some(it) }))
        .route("/optional/scopes", get(|it: Option<Scopes>| async move { some(it) }))
        .route("/optional/properties", get(|it: Option<Properties>| async move { some(it) }))
}

fn some<T>(value: Option<T>) -> &'static str {
    if value.is_some() { "some" } else { "none" }
}

const KINDS: [&str; 3] = ["token", "scopes", "properties"];

#[tokio::test]
async fn extractors_find_the_facts_of_the_layer() {
    let bench = Bench::new().await;
    extractors_find(&bench, bench.layer().optional().build().unwrap()).await;
    // Also if that is one thing only.
    let alone = bench.layer().optional().token_info_alone();
    extractors_find(&bench, alone.build().unwrap()).await;
}

async fn extractors_find(bench: &Bench, auth: AuthLayer) {
    let api = Protected::with_routes(&auth, extracting());
    let token = bench.authlete.token().issue().await;
    for kind in KINDS {
        assert_eq!(api.get_at(&format!("/{kind}"), &token).await.status, StatusCode::OK);
        assert_eq!(api.get_at(&format!("/optional/{kind}"), &token).await.body, "some");
        // A layer without a token: the client has to change the request.
        let answer = api.send_at(&format!("/{kind}"), &[]).await;
        assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, "Bearer"));
        assert_eq!(api.send_at(&format!("/optional/{kind}"), &[]).await.body, "none");
    }
}

#[tokio::test]
async fn extractors_without_a_layer_are_500() {
    let bench = Bench::new().await;
    let api = Protected { router: extracting(), ..bench.api() };
    for kind in KINDS {
        for path in [format!("/{kind}"), format!("/optional/{kind}")] {
            let answer = api.send_at(&path, &[]).await;
            assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        }
    }
}
