//! Nested layers of different handles: inner services get the context of the nearest one.

use std::time::Duration;

use axum::{Router, body::Body, extract::Request, routing::get};
use http::{HeaderName, StatusCode};
use tower_authlete::{
    AuthLayer, Properties, Require, Scopes, TokenInfo, credentials::HeaderToken, emulator::Api,
};

use crate::{
    authorization_server::issued,
    support::{Answer, Bench, send},
};

const INNER: HeaderName = HeaderName::from_static("x-inner-token");

/// The layer of one service inside that of another, which strips `Authorization`. The inner one reads another
/// header.
struct Nested {
    outer: Bench,
    inner: Bench,
    outer_auth: AuthLayer,
    router: Router,
}

async fn nested(optional: bool) -> Nested {
    let (outer, inner) = (Bench::new().await, Bench::new().await);
    let outer_auth = outer.layer().strip_credentials().build().unwrap();
    let layer = inner.layer().token_source(HeaderToken::new(INNER));
    let inner_auth = if optional { layer.optional() } else { layer }.build().unwrap();
    let router = Router::new()
        .route("/", get(seen))
        .route("/write", get(seen).route_layer(Require::scopes(["write"])))
        .layer(inner_auth)
        .layer(outer_auth.clone());
    Nested { outer, inner, outer_auth, router }
}

/// The token that a handler gets.
async fn seen(request: Request) -> String {
    let extensions = request.extensions();
    let subject = extensions.get::<TokenInfo>().map(|token| format!("{:?}", token.subject()));
    let scopes = extensions.get::<Scopes>().map(ToString::to_string);
    let properties = extensions.get::<Properties>().map(|it| it.iter().len());
    format!("{subject:?} {scopes:?} {properties:?}")
}

impl Nested {
    async fn get(&self, path: &str, outer: &str, inner: Option<&str>) -> Answer {
        let request = Request::get(path).header("authorization", format!("Bearer {outer}"));
        let request = inner.into_iter().fold(request, |request, it| request.header(INNER, it));
        send(self.router.clone(), request.body(Body::empty()).unwrap()).await
    }
}

#[tokio::test]
async fn a_requirement_does_not_ask_the_service_of_an_outer_layer() {
    let nested = nested(false).await;
    let outer = issued(&nested.outer.authlete, &nested.outer_auth, "write").await;
    let inner = nested.inner.authlete.token().subject("bob").scopes(["read"]).issue().await;
    let answer = nested.get("/write", &outer, Some(&inner)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert_eq!(nested.outer.authlete.calls(Api::Introspection), 0);
    // An admitted token has its own subject.
    let inner = nested.inner.authlete.token().subject("bob").scopes(["write"]).issue().await;
    let answer = nested.get("/write", &outer, Some(&inner)).await;
    assert_eq!(answer.body, r#"Some("Some(\"bob\")") Some("write") Some(0)"#);
}

#[tokio::test]
async fn an_optional_layer_without_a_token_leaves_none_of_an_outer_one() {
    let nested = nested(true).await;
    let token = nested.outer.authlete.token().subject("alice").scopes(["write"]).issue().await;
    let answer = nested.get("/", &token, None).await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "None None None"));
    // A requirement finds no token.
    let answer = nested.get("/write", &token, None).await;
    assert_eq!((answer.status, answer.challenge()), (StatusCode::UNAUTHORIZED, "Bearer"));
}

#[tokio::test]
async fn a_layer_that_leaves_facts_alone_takes_the_sets_of_an_outer_one_away() {
    let (outer, inner) = (Bench::new().await, Bench::new().await);
    let outer_auth = outer.layer().strip_credentials().build().unwrap();
    let inner_auth = inner.layer().token_source(HeaderToken::new(INNER)).token_info_alone();
    let router = Router::new()
        .route("/", get(seen))
        .layer(inner_auth.build().unwrap())
        .layer(outer_auth.clone());
    let nested = Nested { outer, inner, outer_auth, router };
    let alice = nested.outer.authlete.token().subject("alice").scopes(["write"]).issue().await;
    let bob = nested.inner.authlete.token().subject("bob").issue().await;
    let answer = nested.get("/", &alice, Some(&bob)).await;
    assert_eq!(answer.body, r#"Some("Some(\"bob\")") None None"#);
}

#[tokio::test]
async fn the_nearest_layer_refuses_in_its_own_style() {
    let (outer, inner) = (Bench::new().await, Bench::new().await);
    let outer_auth = outer.layer().strip_credentials().realm("outer").build().unwrap();
    let inner_auth = inner.layer().token_source(HeaderToken::new(INNER)).realm("inner");
    let router = Router::new()
        .route("/write", get(seen).route_layer(Require::scopes(["write"])))
        .layer(inner_auth.build().unwrap())
        .layer(outer_auth.clone());
    let nested = Nested { outer, inner, outer_auth, router };
    // The outer layer leaves a context of its own, since its token was only issued.
    let issued = issued(&nested.outer.authlete, &nested.outer_auth, "write").await;
    nested.outer.clock.advance(Duration::from_secs(1));
    let inner = nested.inner.authlete.token().issue().await;
    let answer = nested.get("/write", &issued, Some(&inner)).await;
    assert!(answer.challenge().starts_with(r#"Bearer realm="inner", error="#), "{answer:?}");
}
