//! Authlete does what it is asked, and the answer is lost on its way: what a client then holds either
//! works or is refused with a challenge.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use tower_authlete::{
    AuthLayer, Refresh, Rotation,
    emulator::{Api, Hold},
};

use crate::support::{Bench, Protected};

const SECOND: Duration = Duration::from_secs(1);
const NEW: HeaderName = HeaderName::from_static("x-new-token");

impl Bench {
    /// An API whose calls to Authlete have a short deadline.
    fn hasty(
        &self,
        settings: impl FnOnce(tower_authlete::AuthLayerBuilder) -> tower_authlete::AuthLayerBuilder,
    ) -> Protected {
        let authlete = self.authlete.client_builder().deadline(SECOND / 5).build().unwrap();
        let layer = AuthLayer::builder(authlete).clock(self.clock.clone());
        Protected::new(&settings(layer).build().unwrap())
    }

    /// From now on, updates are carried out but not answered.
    fn lose_updates(&self) -> Hold {
        self.authlete.hold(Api::TokenUpdate)
    }
}

#[tokio::test]
async fn of_an_extension_the_token_works_on() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).wait();
    let api = bench.hasty(|layer| layer.refresh(refresh));
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    let _lost = bench.lose_updates();
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    // By what is known here it has expired; asked again, Authlete knows better.
    bench.clock.advance(10 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn of_a_rotation_the_old_value_is_refused_with_a_challenge() {
    let bench = Bench::new().await;
    let rotation = Rotation::in_header(NEW).every(20 * SECOND);
    let api = bench.hasty(|layer| layer.rotate(rotation));
    let token = bench.authlete.token().issue().await;
    api.get(&token).await;
    bench.clock.advance(20 * SECOND);
    let _lost = bench.lose_updates();
    let answer = api.get(&token).await;
    assert_eq!((answer.status, answer.header(NEW)), (StatusCode::OK, ""));
    let answer = api.get(&token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""), "{answer:?}");
}

#[tokio::test]
async fn of_a_handlers_update_nothing_old_is_used() {
    let bench = Bench::new().await;
    let api = bench.hasty(|layer| layer);
    let token = bench.authlete.token().scopes(["write"]).issue().await;
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::OK);
    let _lost = bench.lose_updates();
    let narrow = tower_authlete::api::TokenUpdateRequest::new().scopes(["read"]);
    assert!(api.handle.update(&token, narrow).await.is_err());
    assert_eq!(api.get_at("/write", &token).await.status, StatusCode::FORBIDDEN);
}

#[cfg(feature = "session")]
#[tokio::test]
async fn of_a_renewal_the_session_ends_with_a_challenge() {
    use axum::{Router, body::Body, routing::get};
    use http::Request;
    use tower::ServiceBuilder;
    use tower_authlete::session::{MemoryStore, SessionLayer, SessionTokens};

    let bench = Bench::new().await;
    let authlete = bench.authlete.client_builder().deadline(SECOND / 5).build().unwrap();
    let layer = SessionLayer::builder(authlete, MemoryStore::default())
        .client(bench.authlete.client_id().to_string(), bench.authlete.client_secret())
        .clock(bench.clock.clone())
        .build()
        .unwrap();
    let pair = bench.authlete.token().expires_in(SECOND).issue_with_refresh().await;
    let refresh = Some(pair.refresh_token.as_str().into());
    let tokens = SessionTokens::new(pair.access_token, Some(bench.clock.now()), refresh);
    let cookie = layer.sessions().begin(tokens).await.unwrap();
    let cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
    let auth: AuthLayer = bench.layer().build().unwrap();
    let router = Router::new()
        .route("/", get(|| async {}))
        .layer(ServiceBuilder::new().layer(layer).layer(auth));
    let ask = async || {
        let request = Request::get("/").header("cookie", &cookie).body(Body::empty()).unwrap();
        crate::support::send(router.clone(), request).await
    };
    let lost = bench.authlete.hold(Api::Token);
    assert_eq!(ask().await.status, StatusCode::SERVICE_UNAVAILABLE);
    lost.release();
    let answer = ask().await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""), "{answer:?}");
}
