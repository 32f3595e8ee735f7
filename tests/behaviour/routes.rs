//! Routes that differ: optional ones, requirements by method.

use axum::{
    Router,
    handler::Handler,
    routing::{MethodRouter, get, post},
};
use http::{Method, Request, StatusCode};
use tower_authlete::{AuthHandle, AuthLayer, CachePolicy, Require, RequireScopes, TokenInfo};

use crate::support::{Answer, Bench, OK, Protected, SECOND, UNAUTHORIZED, send};

async fn name(token: Option<TokenInfo>) -> String {
    let subject = token.as_ref().and_then(|token| token.subject());
    subject.unwrap_or("nobody").to_owned()
}

/// `/open` behind the optional layer of `auth`, `/closed` behind `auth`.
fn open_and_closed(auth: &AuthLayer) -> (Protected, AuthHandle) {
    let open = Router::new()
        .route("/open", get(name))
        .route("/open/account", get(name).route_layer(Require::authenticated()))
        .route("/open/read", get(name).route_layer(RequireScopes::all(["read"])))
        .layer(auth.optional());
    let closed = Router::new().route("/closed", get(name)).layer(auth.clone());
    let handle = auth.handle();
    (Protected { router: open.merge(closed), handle: handle.clone() }, handle)
}

#[tokio::test]
async fn an_optional_route_has_the_cache_and_the_handle_of_its_layer() {
    let bench = Bench::new().await;
    let (api, handle) = open_and_closed(&bench.layer().build().unwrap());
    let token = bench.authlete.token().subject("alice").issue().await;
    for path in ["/open", "/closed", "/open"] {
        assert_eq!(api.get_at(path, &token).await.body, "alice", "{path}");
    }
    assert_eq!(bench.introspections(), 1, "one call for both routes");
    assert_eq!(api.send_at("/open", &[]).await.body, "nobody");
    assert_eq!(api.send_at("/closed", &[]).await.status, UNAUTHORIZED);

    handle.revoke(&token).await.unwrap();
    for path in ["/open", "/closed"] {
        let answer = api.get_at(path, &token).await;
        assert_eq!(answer.status, UNAUTHORIZED, "{path}");
        assert!(answer.challenge().contains("error=\"invalid_token\""), "{answer:?}");
    }
    assert_eq!(api.send_at("/open", &[]).await.body, "nobody");
}

#[tokio::test]
async fn variants_of_a_layer_combine() {
    let bench = Bench::new().await;
    let auth = bench.layer().cache(CachePolicy::new().stale_if_error(60 * SECOND)).build().unwrap();
    let fresh = [auth.optional().bypass_cache(), auth.bypass_cache().optional()];
    let token = bench.authlete.token().subject("alice").issue().await;
    for (calls, auth) in [(1, &fresh[0]), (3, &fresh[1])] {
        let api = Protected::with_routes(auth, Router::new().route("/", get(name)));
        assert_eq!(api.send(&[]).await.body, "nobody");
        for calls in [calls, calls + 1] {
            assert_eq!(api.get(&token).await.body, "alice");
            assert_eq!(bench.introspections(), calls);
        }
    }
}

#[tokio::test]
async fn an_optional_route_still_refuses_wrong_credentials() {
    let bench = Bench::new().await;
    let (api, _) = open_and_closed(&bench.layer().build().unwrap());
    assert_eq!(api.get_at("/open", "rubbish").await.status, UNAUTHORIZED);
    assert_eq!(api.get_at("/open", "a b").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_optional_route_asks_of_a_token_what_its_layer_requires() {
    let bench = Bench::new().await;
    let auth = bench.layer().require(RequireScopes::all(["write"])).build().unwrap();
    let (api, _) = open_and_closed(&auth);
    assert_eq!(api.send_at("/open", &[]).await.body, "nobody");
    for (scope, status) in [("write", OK), ("read", StatusCode::FORBIDDEN)] {
        let token = bench.authlete.token().scopes([scope]).issue().await;
        assert_eq!(api.get_at("/open", &token).await.status, status, "{scope}");
    }
    // A requirement of the route takes a token, and both have to be met.
    assert_eq!(api.send_at("/open/read", &[]).await.status, UNAUTHORIZED);
    for (scopes, status) in [(&["write"][..], 403), (&["read"], 403), (&["read", "write"], 200)] {
        let token = bench.authlete.token().scopes(scopes.iter().copied()).issue().await;
        let answer = api.get_at("/open/read", &token).await;
        assert_eq!(answer.status.as_u16(), status, "{scopes:?}");
    }
}

#[tokio::test]
async fn authenticated_takes_any_valid_token() {
    let bench = Bench::new().await;
    let (api, handle) = open_and_closed(&bench.layer().build().unwrap());
    let answer = api.send_at("/open/account", &[]).await;
    assert_eq!((answer.status, answer.challenge()), (UNAUTHORIZED, "Bearer"));
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.get_at("/open/account", &token).await.status, OK);
    handle.revoke(&token).await.unwrap();
    assert_eq!(api.get_at("/open/account", &token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn authenticated_without_a_layer_is_500() {
    let bench = Bench::new().await;
    let router = Router::new().route("/", get(name).route_layer(Require::authenticated()));
    let api = Protected { router, ..bench.api() };
    assert_eq!(api.get("any").await.status, StatusCode::INTERNAL_SERVER_ERROR);
}

fn read() -> Require {
    RequireScopes::all(["read"])
}

fn write() -> Require {
    RequireScopes::all(["write"])
}

async fn request(api: &Protected, method: Method, token: &str) -> Answer {
    let request = Request::builder().method(method).uri("/notes");
    let request = request.header("authorization", format!("Bearer {token}"));
    send(api.router.clone(), request.body(axum::body::Body::empty()).unwrap()).await
}

/// The statuses of GET and POST, with a token of each scope.
async fn statuses(notes: MethodRouter) -> [[u16; 2]; 2] {
    let bench = Bench::new().await;
    let routes = Router::new().route("/notes", notes);
    let api = Protected::with_routes(&bench.layer().build().unwrap(), routes);
    let mut statuses = [[0; 2]; 2];
    for (of_scope, scope) in statuses.iter_mut().zip(["read", "write"]) {
        let token = bench.authlete.token().scopes([scope]).issue().await;
        for (status, method) in of_scope.iter_mut().zip([Method::GET, Method::POST]) {
            *status = request(&api, method, &token).await.status.as_u16();
        }
        assert_eq!(request(&api, Method::PUT, &token).await.status, 405);
    }
    statuses
}

#[tokio::test]
async fn each_method_has_its_own_requirement() {
    let expected = [[200, 403], [403, 200]];
    let on_handlers = get(name.layer(read())).post(name.layer(write()));
    assert_eq!(statuses(on_handlers).await, expected);
    let merged = get(name).route_layer(read()).merge(post(name).route_layer(write()));
    assert_eq!(statuses(merged).await, expected);
}

/// What the docs of `Require` warn of. If axum changes it, they have to change.
#[tokio::test]
async fn a_route_layer_goes_around_the_methods_before_it() {
    let trap = get(name).route_layer(read()).post(name).route_layer(write());
    assert_eq!(statuses(trap).await, [[403, 403], [403, 200]]);
}
