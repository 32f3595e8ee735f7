//! A wrong setting fails when the layer is built.

use std::time::Duration;

use http::StatusCode;
use tower_authlete::{
    AuthLayerBuilder, Check, MessageSignatures, Refresh, RequireScopes, Rotation,
};

use crate::support::{Bench, NEW, Protected, SECOND};

#[tokio::test]
async fn a_wrong_setting_is_named() {
    type Wrong = fn(AuthLayerBuilder) -> AuthLayerBuilder;
    let bench = Bench::new().await;
    let cases: [(&str, Wrong); 17] = [
        ("max_age", |layer| layer.max_age(Duration::from_secs(86_401))),
        ("negative_max_age", |layer| layer.negative_max_age(Duration::MAX)),
        ("stale_on_error", |layer| layer.stale_on_error(Duration::from_secs(86_401))),
        // Without a cache, nothing can be stale.
        ("stale_on_error", |layer| {
            layer.max_age(Duration::ZERO).stale_on_error(Duration::from_secs(600))
        }),
        ("stale_on_error", |layer| layer.no_cache().stale_on_error(Duration::from_secs(600))),
        ("refresh_ahead", |layer| layer.refresh_ahead(Duration::from_secs(61))),
        ("refresh_ahead", |layer| layer.refresh_ahead(Duration::from_secs(60))),
        ("message_signatures", |layer| {
            let signatures = MessageSignatures::at("https://api.example.com");
            layer.check(Check::Update).message_signatures(signatures)
        }),
        ("breaker", |layer| layer.breaker(5, Duration::ZERO)),
        ("breaker", |layer| layer.breaker(5, Duration::from_secs(31))),
        ("check_deadline", |layer| layer.check_deadline(Duration::MAX)),
        ("check_deadline", |layer| layer.check_deadline(Duration::ZERO)),
        ("max_in_flight", |layer| layer.max_in_flight(0)),
        ("max_entries", |layer| layer.max_entries(0)),
        ("negative_max_entries", |layer| layer.negative_max_entries(0)),
        ("max_token_length", |layer| layer.max_token_length(0)),
        ("realm", |layer| layer.realm("a\r\nb")),
    ];
    for (name, wrong) in cases {
        let error = wrong(bench.layer()).build().expect_err(name);
        assert_eq!(error.setting(), name);
        assert!(error.to_string().starts_with(&format!("{name} is wrong (")), "{error}");
    }
}

#[tokio::test]
async fn a_layer_need_not_let_checks_wait() {
    let bench = Bench::new().await;
    assert!(bench.layer().check_deadline(SECOND).max_waiting(0).build().is_ok());
}

#[tokio::test]
async fn the_longest_durations_are_accepted() {
    let bench = Bench::new().await;
    let forever = Duration::MAX;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).never_beyond(forever);
    let layer = bench.layer().refresh(refresh.wait()).check_deadline(86_400 * SECOND);
    let rotation = Rotation::in_header(NEW).every(forever);
    let api = Protected::new(&layer.rotate(rotation).build().unwrap());
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    assert_eq!(bench.updates(), 1, "it is extended");
}

#[tokio::test]
async fn a_realm_with_quotes_stays_in_its_quotes() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.realm(r#"a "b" \c"#));
    assert_eq!(api.send(&[]).await.challenge(), r#"Bearer realm="a \"b\" \\c""#);
}

#[test]
#[should_panic(expected = "is no scope")]
fn a_scope_that_is_none_is_found_when_the_router_is_built() {
    let _ = RequireScopes::any(["read", "wr\"ite"]);
}
