//! Tests of handlers without a layer: `testing` lets extractors and requirements accept a token, and nothing
//! else does.

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{self, Next},
    routing::get,
};
use http::StatusCode;
use tower_authlete::{Require, RequireScopes, Scopes, TokenInfo, axum::TokenProperties, testing};

use crate::support::{Answer, Bench, OK, Protected, UNAUTHORIZED, send};

async fn name(token: Option<TokenInfo>) -> String {
    token.and_then(|token| token.subject().map(Into::into)).unwrap_or("nobody".into())
}

fn routes() -> Router {
    Router::new()
        .route("/", get(name))
        .route("/read", get(name).route_layer(RequireScopes::all(["read"])))
        .route("/known", get(name).route_layer(Require::authenticated()))
        .route("/scopes", get(async |scopes: Scopes| scopes.to_string()))
        .route(
            "/plan",
            get(async |TokenProperties(it): TokenProperties<Vec<(String, String)>>| {
                it.into_iter().map(|(key, value)| key + &value).collect::<String>()
            }),
        )
}

fn alice() -> TokenInfo {
    TokenInfo::builder().subject("alice").scopes(["read"]).property("plan", "gold").build()
}

async fn get_with(path: &str, prepare: impl FnOnce(&mut http::Extensions)) -> Answer {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    prepare(request.extensions_mut());
    send(routes(), request).await
}

#[tokio::test]
async fn a_test_admits_a_request_with_a_token() {
    for (path, body) in [
        ("/", "alice"),
        ("/read", "alice"),
        ("/known", "alice"),
        ("/scopes", "read"),
        ("/plan", "plangold"),
    ] {
        let answer = get_with(path, |extensions| testing::admit(extensions, alice())).await;
        assert_eq!((answer.status, answer.body.as_str()), (OK, body), "{path}");
    }
    let bob = TokenInfo::builder().subject("bob").build();
    let answer = get_with("/read", |extensions| testing::admit(extensions, bob)).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.challenge().ends_with("scope=\"read\""), "{answer:?}");
}

#[tokio::test]
async fn a_test_admits_a_request_without_a_token() {
    for earlier in [false, true] {
        let admit = |extensions: &mut http::Extensions| {
            if earlier {
                testing::admit(extensions, alice());
            }
            testing::admit_anonymous(extensions);
        };
        assert_eq!(get_with("/", admit).await.body, "nobody");
        for path in ["/read", "/known", "/scopes"] {
            let answer = get_with(path, admit).await;
            assert_eq!((answer.status, answer.challenge()), (UNAUTHORIZED, "Bearer"), "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_that_other_code_inserts_is_not_accepted() {
    for path in ["/", "/read", "/known", "/scopes", "/plan"] {
        let answer = get_with(path, |extensions| drop(extensions.insert(alice()))).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    }
}

#[tokio::test]
async fn a_layer_goes_by_nothing_that_was_inserted_before_it() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().subject("bob").issue().await;
    for auth in [bench.layer(), bench.layer().optional()] {
        let forging = middleware::from_fn(|mut request: Request, next: Next| {
            testing::admit(request.extensions_mut(), alice());
            next.run(request)
        });
        let auth = auth.build().unwrap();
        let router = routes().layer(auth.clone()).layer(forging);
        let api = Protected { router, handle: auth.handle() };
        assert_eq!(api.get(&token).await.body, "bob");
        assert_eq!(api.get_at("/read", &token).await.status, StatusCode::FORBIDDEN);
        assert_eq!(api.send_at("/read", &[]).await.status, UNAUTHORIZED);
        assert_ne!(api.send(&[]).await.body, "alice");
    }
}
