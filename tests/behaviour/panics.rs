//! A panic affects no other request, and leaks no permit and no call.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Body, routing::get};
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt};
use tower_authlete::{
    AuthLayer, AuthLayerBuilder, MalformedCredentials, Refresh, Refusal, Renderer, RequestHead,
    Require, TokenSource, emulator::Api,
};

use crate::support::{Bench, OK, Protected, SECOND, UNAUTHORIZED, UNAVAILABLE, resilience};

/// Panics a given number of times.
#[derive(Clone, Default)]
struct Fuse(Arc<AtomicUsize>);

impl Fuse {
    fn set(&self, times: usize) {
        self.0.store(times, Ordering::SeqCst);
    }

    fn blow(&self) {
        let less = |times: usize| times.checked_sub(1);
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        assert!(left.is_err(), "as it was told to");
    }

    /// A predicate that panics.
    fn holds(&self) -> bool {
        self.blow();
        true
    }
}

impl TokenSource for Fuse {
    fn token<'r>(&self, _: RequestHead<'r>) -> Result<Option<&'r str>, MalformedCredentials> {
        self.blow();
        Ok(None)
    }
}

impl Renderer<Body> for Fuse {
    fn render(&self, _: &Refusal<'_>, head: Response<()>) -> Response<Body> {
        self.blow();
        head.map(|()| Body::empty())
    }
}

/// With one permit, so that a leaked one shows.
fn narrow(bench: &Bench) -> AuthLayerBuilder {
    bench.layer().resilience(resilience().max_in_flight(1).max_waiting(0))
}

async fn panics(api: &Protected, token: &str) {
    assert!(api.spawn_get(token).await.is_err_and(|error| error.is_panic()));
}

/// An API whose handler panics.
fn around_fuse<R: Renderer<Body>>(auth: &AuthLayer<R>, fuse: &Fuse) -> Protected {
    let fuse = fuse.clone();
    Protected::with_routes(auth, Router::new().route("/", get(async move || fuse.blow())))
}

#[tokio::test]
async fn after_a_panic_requests_are_served() {
    for place in ["handler", "requirement", "requirement of a route", "precheck", "token source"] {
        let (bench, fuse) = (Bench::new().await, Fuse::default());
        let (layer, it) = (narrow(&bench), fuse.clone());
        let layer = match place {
            "requirement" => layer.require(Require::when("test", move |_| it.holds())),
            "precheck" => layer.precheck(move |_: &str| it.holds()),
            "token source" => layer.token_source(it),
            _ => layer,
        };
        let auth = layer.build().unwrap();
        let api = match place {
            "handler" => around_fuse(&auth, &fuse),
            "requirement of a route" => {
                let it = fuse.clone();
                let requires = Require::when("test", move |_| it.holds());
                let router = Router::new().route("/", get(async || ()).route_layer(requires));
                Protected::with_routes(&auth, router)
            }
            _ => Protected::new(&auth),
        };
        for _unknown_at_first in 0..2 {
            let token = bench.authlete.token().issue().await;
            for known in [false, true] {
                fuse.set(1);
                panics(&api, &token).await;
                assert_eq!(api.get(&token).await.status, OK, "{place}, {known}");
                assert_eq!(api.handle.health().in_flight, 0);
            }
            api.handle.forget(&token);
            assert_eq!(api.get(&token).await.status, OK, "{place}");
        }
        assert_eq!(bench.introspections(), 4);
    }
}

#[tokio::test]
async fn after_a_panic_of_the_inner_service_it_is_called_again() {
    let (bench, fuse) = (Bench::new().await, Fuse::default());
    let auth = narrow(&bench).build().unwrap();
    let token = bench.authlete.token().issue().await;
    let it = fuse.clone();
    let mut service = auth.layer(tower::service_fn(move |_: Request<Body>| {
        it.blow();
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Body::empty())))
    }));
    for times in [1, 0, 1, 0] {
        fuse.set(times);
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::empty()).unwrap();
        // The very same service, as a connection would use it.
        let clone = service.clone();
        let mut used = std::mem::replace(&mut service, clone);
        let answer = tokio::spawn(async move { used.ready().await.unwrap().call(request).await });
        let status = answer.await.map(|answer| answer.unwrap().status());
        assert_eq!(status.ok(), (times == 0).then_some(OK));
    }
    assert_eq!((bench.introspections(), auth.handle().health().in_flight), (1, 0));
}

#[tokio::test]
async fn after_a_panic_of_the_renderer_refusals_are_rendered() {
    let (bench, fuse) = (Bench::new().await, Fuse::default());
    let it = fuse.clone();
    let auth = narrow(&bench).renderer(fuse.clone()).build().unwrap();
    let api = Protected::new(&auth);
    let token = bench.authlete.token().scopes(["read"]).issue().await;
    for (path, token, status) in
        [("/", "made-up", UNAUTHORIZED), ("/write", token.as_str(), StatusCode::FORBIDDEN)]
    {
        for _known in 0..2 {
            it.set(1);
            let (there, shown) = (api.clone(), token.to_owned());
            let refused = tokio::spawn(async move { there.get_at(path, &shown).await });
            assert!(refused.await.is_err_and(|error| error.is_panic()));
            assert_eq!(api.get_at(path, token).await.status, status);
        }
    }
    assert_eq!(api.get(&token).await.status, OK);
    assert_eq!((bench.introspections(), api.handle.health().in_flight), (2, 0));
}

#[tokio::test]
async fn a_panic_of_a_waiter_fails_no_other() {
    let (bench, fuse) = (Bench::new().await, Fuse::default());
    let it = fuse.clone();
    let requirement = Require::when("test", move |_| it.holds());
    let api = Protected::new(&narrow(&bench).require(requirement).build().unwrap());
    let token = bench.authlete.token().issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    fuse.set(1);
    let waiting: Vec<_> = (0..5).map(|_| api.spawn_get(&token)).collect();
    bench.authlete.arrived(Api::Introspection, 1).await;
    hold.release();
    let outcomes = join_all(waiting).await;
    let good = outcomes.iter().filter(|outcome| outcome.as_ref().is_ok_and(|it| it.status == OK));
    assert_eq!(good.count(), 4);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_panic_in_a_call_counts_as_a_failure() {
    let (bench, fuse) = (Bench::new().await, Fuse::default());
    let it = fuse.clone();
    let authlete = bench.watched(move |_| it.blow()).build().unwrap();
    let layer = AuthLayer::builder(authlete).clock(bench.clock.clone());
    let auth = layer.resilience(resilience().max_in_flight(1).max_waiting(0)).build().unwrap();
    let api = Protected::new(&auth);
    let token = bench.authlete.token().issue().await;
    for _again in 0..2 {
        fuse.set(1);
        let waiting = join_all((0..5).map(|_| api.get(&token)));
        let answers = tokio::time::timeout(60 * SECOND, waiting).await.expect("all get an answer");
        assert!(answers.iter().all(|answer| answer.status == UNAVAILABLE));
        assert_eq!(api.handle.health().in_flight, 0);
    }
    assert_eq!(api.get(&token).await.status, OK);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_panic_in_an_extension_leaves_none_in_flight() {
    let (bench, fuse) = (Bench::new().await, Fuse::default());
    let it = fuse.clone();
    let refresh = Refresh::extend().when(move |_| it.holds());
    let api = Protected::new(&narrow(&bench).refresh(refresh).build().unwrap());
    let token = bench.authlete.token().expires_in(100 * SECOND).issue().await;
    fuse.set(1);
    assert_eq!(api.get(&token).await.status, OK, "only the extension was lost");
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    assert_eq!(api.get(&token).await.status, OK);
    api.is_idle().await;
    assert_eq!((bench.introspections(), bench.updates()), (2, 1));
}

#[tokio::test]
async fn a_panic_in_an_extension_fails_no_request() {
    let bench = Bench::new().await;
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    for waits in [true, false] {
        let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND);
        let refresh = refresh.never_beyond(100 * SECOND).when(|_| panic!("as it should"));
        let refresh = if waits { refresh.wait() } else { refresh };
        let api = bench.api_with(|layer| layer.refresh(refresh));
        for _known_or_not in 0..2 {
            assert_eq!(api.get(&token).await.status, OK);
        }
    }
    assert_eq!((bench.introspections(), bench.updates()), (2, 0));
}
