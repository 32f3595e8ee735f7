//! Wrong settings fail when the layer is built, and tell what to do.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use tower_authlete::{
    AuthLayerBuilder, Check, MessageSignatures, Refresh, RequireScopes, Rotation, emulator::Api,
};

use crate::support::{Bench, Protected};

const NEW: HeaderName = HeaderName::from_static("x-new-token");

#[tokio::test]
async fn a_wrong_setting_is_named() {
    type Wrong = fn(AuthLayerBuilder) -> AuthLayerBuilder;
    let bench = Bench::new().await;
    let cases: [(&str, Wrong); 13] = [
        ("max_age", |layer| layer.max_age(Duration::from_secs(86_401))),
        ("negative_max_age", |layer| layer.negative_max_age(Duration::MAX)),
        ("stale_on_error", |layer| layer.stale_on_error(Duration::from_secs(86_401))),
        ("refresh_ahead", |layer| layer.refresh_ahead(Duration::from_secs(61))),
        ("refresh_ahead", |layer| layer.refresh_ahead(Duration::from_secs(60))),
        ("message_signatures", |layer| {
            let signatures = MessageSignatures::at("https://api.example.com");
            layer.check(Check::Update).message_signatures(signatures)
        }),
        ("breaker", |layer| layer.breaker(5, Duration::ZERO)),
        ("breaker", |layer| layer.breaker(5, Duration::from_secs(31))),
        ("check_deadline", |layer| layer.check_deadline(Duration::MAX)),
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
async fn times_without_end_can_be_given() {
    let bench = Bench::new().await;
    let (second, forever) = (Duration::from_secs(1), Duration::MAX);
    let refresh = Refresh::extend().when_below(10 * second).to(30 * second).never_beyond(forever);
    let layer = bench.layer().refresh(refresh.wait()).check_deadline(86_400 * second);
    let rotation = Rotation::in_header(NEW).every(forever);
    let api = Protected::new(&layer.rotate(rotation).build().unwrap());
    let token = bench.authlete.token().expires_in(5 * second).issue().await;
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    assert_eq!(bench.authlete.calls(Api::TokenUpdate), 1, "it is extended");
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
