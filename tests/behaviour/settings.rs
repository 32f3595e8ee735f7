//! A wrong setting fails when the layer is built.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use tower::{Layer, Service};
use tower_authlete::{
    Authlete, CachePolicy, Dpop, Require,
    delegate::{DelegateLayer, DelegateService},
    endpoint::{Limits, TokenEndpoint},
    layer::{AuthLayerBuilder, AuthService, CheckApi},
    lifecycle::{AccessTokenRotation, ExtendLifetime},
    proof::{ClientCertificates, MessageSignatures, Origin},
    require::RequireService,
    resilience::{Breaker, Resilience},
    session::{MemoryStore, SessionLayer},
};

use crate::support::{Bench, NEW, Protected, SECOND, resilience, wrong_settings};

type Settings = fn(AuthLayerBuilder) -> AuthLayerBuilder;

const DAY: Duration = Duration::from_secs(86_400);

fn cache(layer: AuthLayerBuilder, policy: fn(CachePolicy) -> CachePolicy) -> AuthLayerBuilder {
    layer.cache(policy(CachePolicy::new()))
}

fn calls(layer: AuthLayerBuilder, settings: fn(Resilience) -> Resilience) -> AuthLayerBuilder {
    layer.resilience(settings(Resilience::new()))
}

#[tokio::test]
async fn a_wrong_setting_is_named() {
    let bench = Bench::new().await;
    let cases: [(&str, Settings); 19] = [
        ("cache.max_age", |layer| layer.max_age(DAY + SECOND)),
        ("cache.max_age", |layer| cache(layer, |it| it.max_age(DAY + SECOND))),
        ("cache.negative_max_age", |layer| cache(layer, |it| it.negative_max_age(Duration::MAX))),
        ("cache.stale_if_error", |layer| cache(layer, |it| it.stale_if_error(DAY + SECOND))),
        // Without a cache, nothing can be stale.
        ("cache.stale_if_error", |layer| {
            cache(layer.max_age(Duration::ZERO), |it| it.stale_if_error(600 * SECOND))
        }),
        ("cache.stale_if_error", |layer| {
            layer.cache(CachePolicy::disabled().stale_if_error(600 * SECOND))
        }),
        ("cache.revalidate_before", |layer| cache(layer, |it| it.revalidate_before(61 * SECOND))),
        ("cache.revalidate_before", |layer| cache(layer, |it| it.revalidate_before(60 * SECOND))),
        ("cache.max_entries", |layer| cache(layer, |it| it.max_entries(0))),
        ("cache.negative_max_entries", |layer| cache(layer, |it| it.negative_max_entries(0))),
        ("message_signatures", |layer| {
            let signatures = MessageSignatures::for_origin("https://api.example.com");
            layer.check(CheckApi::Update).message_signatures(signatures)
        }),
        ("resilience.breaker.after", |layer| calls(layer, |it| it.breaker(Breaker::after(0)))),
        ("resilience.breaker.pause", |layer| {
            calls(layer, |it| it.breaker(Breaker::after(5).pause(Duration::ZERO)))
        }),
        ("resilience.breaker.pause", |layer| {
            calls(layer, |it| it.breaker(Breaker::after(5).pause(31 * SECOND)))
        }),
        ("resilience.deadline", |layer| calls(layer, |it| it.deadline(Duration::MAX))),
        ("resilience.deadline", |layer| calls(layer, |it| it.deadline(Duration::ZERO))),
        ("resilience.max_in_flight", |layer| calls(layer, |it| it.max_in_flight(0))),
        ("max_token_length", |layer| layer.max_token_length(0)),
        ("realm", |layer| layer.realm("a\r\nb")),
    ];
    for (name, settings) in cases {
        let error = settings(bench.layer()).build().expect_err(name);
        assert_eq!(wrong_settings(&error), [name]);
        assert!(error.to_string().starts_with(&format!("{name} is wrong (")), "{error}");
    }
}

/// A layer of which a setting in each group is wrong, and several in some.
fn all_wrong(layer: AuthLayerBuilder) -> AuthLayerBuilder {
    let cache = CachePolicy::new().max_entries(0).negative_max_age(DAY + SECOND);
    let breaker = Breaker::after(0).pause(Duration::ZERO);
    let resilience = Resilience::new().deadline(Duration::ZERO).breaker(breaker);
    let extension = ExtendLifetime::new().when_below(10 * SECOND).to(SECOND);
    let rotation = AccessTokenRotation::in_cookie("s3cr3t name").every(Duration::ZERO);
    let hosts = ["s3cr3t/", "api.example.com", "*"];
    let dpop = Dpop::for_origin(Origin::forwarded_by(["nowhere"], hosts))
        .algorithms([])
        .nonce_key("s3cr3t")
        .nonce_life(SECOND / 2);
    layer
        .cache(cache)
        .resilience(resilience)
        .extend_lifetime(extension)
        .rotate(rotation)
        .dpop(dpop)
        .client_certificates(ClientCertificates::from_client_cert_header(["s3cr3t"]))
        .message_signatures(MessageSignatures::for_origin("s3cr3t"))
        .realm("s3cr3t\n")
}

#[tokio::test]
async fn all_wrong_settings_are_told_at_once() {
    let bench = Bench::new().await;
    let error = all_wrong(bench.layer()).build().unwrap_err();
    let expected = [
        "cache.negative_max_age",
        "cache.max_entries",
        "resilience.deadline",
        "resilience.breaker.after",
        "resilience.breaker.pause",
        "extend_lifetime.to",
        "rotate.every",
        "rotate.in_cookie",
        // A proxy and two hosts.
        "dpop.for_origin",
        "dpop.for_origin",
        "dpop.for_origin",
        "dpop.algorithms",
        "dpop.nonce_key",
        "dpop.nonce_life",
        "message_signatures.for_origin",
        "client_certificates",
        "realm",
    ];
    assert_eq!(wrong_settings(&error), expected);
    // A line for each, without a word of what was given.
    let text = error.to_string();
    assert!(!format!("{text} {error:?}").contains("s3cr3t"), "{text}");
    for (line, wrong) in text.lines().zip(&error) {
        let (problem, remedy) = (wrong.problem(), wrong.remedy());
        assert_eq!(line, format!("{} is wrong ({problem}): {remedy}", wrong.setting()));
    }
    assert_eq!(text.lines().count(), expected.len());
}

#[test]
fn a_client_tells_all_wrong_settings_at_once() {
    let client = Authlete::builder()
        .base_url("s3cr3t")
        .service_access_token("s3cr3t\n")
        .connect_timeout(Duration::ZERO)
        .deadline(Duration::ZERO)
        .max_response_size(0)
        .user_agent("s3cr3t\n");
    let error = client.build().unwrap_err();
    let expected = [
        "base_url (AUTHLETE_BASE_URL)",
        "service_id (AUTHLETE_SERVICE_APIKEY)",
        "service_access_token (AUTHLETE_SERVICE_ACCESSTOKEN)",
        "connect_timeout",
        "deadline",
        "max_response_size",
        "user_agent",
    ];
    assert_eq!(wrong_settings(&error), expected);
    assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
}

#[tokio::test]
async fn sessions_and_endpoints_tell_all_wrong_settings_at_once() {
    let bench = Bench::new().await;
    let authlete = bench.authlete.authlete();
    let sessions = SessionLayer::builder(authlete.clone(), MemoryStore::default())
        .cookie("s3cr3t")
        .store_deadline(Duration::ZERO);
    let error = sessions.build().map(|_| ()).unwrap_err();
    assert_eq!(wrong_settings(&error), ["client", "store_deadline", "cookie"]);
    let handle = bench.layer().build().unwrap().handle();
    let endpoint = TokenEndpoint::builder(authlete, &handle)
        .url("s3cr3t")
        .client_certificates(ClientCertificates::from_client_cert_header([""; 0]))
        .limits(Limits::new().max_in_flight(0).deadline(Duration::ZERO));
    let error = endpoint.build().map(|_| ()).unwrap_err();
    let expected = ["url", "limits.max_in_flight", "limits.deadline", "client_certificates"];
    assert_eq!(wrong_settings(&error), expected);
}

/// How often Authlete is asked about a token that comes at once, and again after 40 s.
async fn checks(settings: Settings) -> (u64, u64) {
    let bench = Bench::new().await;
    let api = bench.api_with(settings);
    let token = bench.authlete.token().issue().await;
    for _ in 0..2 {
        assert_eq!(api.get(&token).await.status, StatusCode::OK);
    }
    let at_once = bench.introspections();
    bench.clock.advance(40 * SECOND);
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    (at_once, bench.introspections())
}

#[tokio::test]
async fn an_age_that_is_set_beside_the_group_stays() {
    assert_eq!(checks(|layer| layer).await, (1, 1));
    assert_eq!(checks(|layer| layer.max_age(30 * SECOND)).await, (1, 2));
    let other = |layer: AuthLayerBuilder| {
        layer.max_age(30 * SECOND).cache(CachePolicy::new().negative_max_age(SECOND))
    };
    assert_eq!(checks(other).await, (1, 2));
    // What is set last holds.
    assert_eq!(checks(|layer| layer.max_age(50 * SECOND).cache(GROUP)).await, (1, 2));
    assert_eq!(checks(|layer| layer.cache(GROUP).max_age(50 * SECOND)).await, (1, 1));
    assert_eq!(
        checks(|layer| layer.max_age(50 * SECOND).cache(CachePolicy::disabled())).await,
        (2, 3)
    );
}

/// Groups can be constants.
const GROUP: CachePolicy = CachePolicy::new().max_age(Duration::from_secs(30));

#[tokio::test]
async fn a_layer_need_not_let_checks_wait() {
    let bench = Bench::new().await;
    assert!(bench.layer().resilience(resilience().deadline(SECOND).max_waiting(0)).build().is_ok());
}

#[tokio::test]
async fn the_longest_durations_are_accepted() {
    let bench = Bench::new().await;
    let forever = Duration::MAX;
    let extension =
        ExtendLifetime::new().when_below(10 * SECOND).to(30 * SECOND).never_beyond(forever);
    let layer = bench
        .layer()
        .extend_lifetime(extension.wait())
        .resilience(resilience().deadline(86_400 * SECOND));
    let rotation = AccessTokenRotation::in_header(NEW).every(forever);
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
    let _ = Require::any_scope(["read", "wr\"ite"]);
}

/// A service to be found inside of others.
#[derive(Debug, Clone, PartialEq)]
struct Inner(u8);

impl Service<Request<()>> for Inner {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

#[tokio::test]
async fn services_give_access_to_the_one_inside() {
    let bench = Bench::new().await;
    let mut auth: AuthService<Inner, _> = bench.layer().build().unwrap().layer(Inner(0));
    let mut require: RequireService<Inner> = Require::scopes(["read"]).layer(Inner(0));
    let layer = DelegateLayer::new(bench.authlete.authlete());
    let mut delegate: DelegateService<Inner> = layer.layer(Inner(0));
    for inner in [auth.get_mut(), require.get_mut(), delegate.get_mut()] {
        inner.0 += 1;
    }
    for inner in [auth.get_ref(), require.get_ref(), delegate.get_ref()] {
        assert_eq!(*inner, Inner(1));
    }
    let inner = [auth.into_inner(), require.into_inner(), delegate.into_inner()];
    assert_eq!(inner, [Inner(1), Inner(1), Inner(1)]);
}
