//! Work ends when nobody is left to do it for, and what panics takes nothing else with it.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tower::{Layer, Service, ServiceExt};
use tower_authlete::{
    AuthLayer, AuthLayerBuilder, Authlete, MalformedCredentials, Refresh, Rejection, Renderer,
    RequestHead, Require, TokenSource,
    api::{TlsRoots, Transport},
    emulator::Api,
};

use crate::support::{Answer, Bench, Protected};

const SECOND: Duration = Duration::from_secs(1);
const OK: StatusCode = StatusCode::OK;
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// Settings with a mark in all that the layer and its background work keep, and a look at whether
/// anything of them is left.
fn marked(layer: AuthLayerBuilder) -> (AuthLayerBuilder, Weak<()>) {
    let mark = Arc::new(());
    let (left, of_work) = (Arc::downgrade(&mark), mark.clone());
    let refresh = Refresh::extend().when(move |_| Arc::strong_count(&of_work) > 0);
    (layer.refresh(refresh).token_source(Marked(mark)), left)
}

struct Marked(#[expect(dead_code, reason = "it is only kept")] Arc<()>);

impl TokenSource for Marked {
    fn token<'r>(&self, _: RequestHead<'r>) -> Result<Option<&'r str>, MalformedCredentials> {
        Ok(None)
    }
}

/// Waits until nothing is left of a layer.
async fn gone(left: &Weak<()>) {
    let gone = async {
        while left.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(60 * SECOND, gone).await.expect("something keeps the layer alive");
}

fn request(api: &Protected, token: &str) -> JoinHandle<Answer> {
    let (api, token) = (api.clone(), token.to_owned());
    tokio::spawn(async move { api.get(&token).await })
}

#[tokio::test]
async fn nothing_of_a_layer_is_left_when_its_last_handle_goes() {
    let bench = Bench::new().await;
    let (layer, left) = marked(bench.layer());
    let api = Protected::new(&layer.build().unwrap());
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    let Protected { router, handle } = api;
    drop(router);
    assert!(left.strong_count() > 0 && handle.health().entries <= 1, "a handle keeps it");
    drop(handle);
    gone(&left).await;
}

#[tokio::test]
async fn a_check_that_nobody_waits_for_ends_by_its_answer_or_its_deadline() {
    for answered in [true, false] {
        let bench = Bench::new().await;
        let deadline = if answered { 3600 * SECOND } else { Duration::from_millis(50) };
        let (layer, left) = marked(bench.layer().check_deadline(deadline));
        let api = Protected::new(&layer.build().unwrap());
        let token = bench.authlete.token().issue().await;
        let hold = bench.authlete.hold(Api::Introspection);
        let only = request(&api, &token);
        bench.authlete.arrived(Api::Introspection, 1).await;
        only.abort();
        assert!(only.await.unwrap_err().is_cancelled());
        drop(api);
        if answered {
            hold.release();
            gone(&left).await;
        } else {
            gone(&left).await;
            drop(hold);
        }
        assert_eq!(bench.introspections(), 1);
    }
}

#[tokio::test]
async fn so_does_a_look_ahead() {
    let bench = Bench::new().await;
    let (layer, left) = marked(bench.layer().refresh_ahead(20 * SECOND));
    let api = Protected::new(&layer.build().unwrap());
    let token = bench.authlete.token().issue().await;
    assert_eq!(api.get(&token).await.status, OK);
    bench.clock.advance(51 * SECOND);
    let hold = bench.authlete.hold(Api::Introspection);
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.arrived(Api::Introspection, 2).await;
    drop(api);
    hold.release();
    gone(&left).await;
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn so_does_an_extension_which_is_finished() {
    let bench = Bench::new().await;
    let (layer, left) = marked(bench.layer());
    let api = Protected::new(&layer.build().unwrap());
    let token = bench.authlete.token().subject("alice").expires_in(100 * SECOND).issue().await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    assert_eq!(api.get(&token).await.status, OK);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    drop(api);
    hold.release();
    gone(&left).await;
    bench.clock.advance(200 * SECOND);
    assert_eq!(bench.api().get(&token).await.body, "alice");
    assert_eq!(bench.authlete.calls(Api::TokenUpdate), 1);
}

#[tokio::test]
async fn connections_are_closed() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let authlete = Authlete::builder().base_url(url).service_id("1").service_access_token("secret");
    let auth: AuthLayer = AuthLayer::new(authlete.build().unwrap());
    let handle = auth.handle();
    let warm_up = tokio::spawn(async move { handle.warm_up().await.map(drop) });
    let (mut connection, _) = server.accept().await.unwrap();
    let mut asked = [0; 4096];
    assert!(connection.read(&mut asked).await.unwrap() > 0);
    let body = r#"{"action":"UNAUTHORIZED"}"#;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", body.len());
    let answer = format!("{head}content-type: application/json\r\n\r\n{body}");
    connection.write_all(answer.as_bytes()).await.unwrap();
    warm_up.await.unwrap().unwrap();
    drop(auth);
    // It was kept for the next call until now, and would have been for 20 s.
    let end = tokio::time::timeout(10 * SECOND, connection.read_to_end(&mut Vec::new())).await;
    assert!(end.expect("the connection is still open").is_ok());
}

/// What panics as often as it is told to.
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

    /// The same, as a predicate.
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
    fn render(&self, _: &Rejection, head: Response<()>) -> Response<Body> {
        self.blow();
        head.map(|()| Body::empty())
    }
}

/// With room for one call, so that a place that is not given back shows.
fn narrow(bench: &Bench) -> AuthLayerBuilder {
    bench.layer().max_in_flight(1).max_waiting(0)
}

async fn panics(api: &Protected, token: &str) {
    assert!(request(api, token).await.is_err_and(|error| error.is_panic()));
}

/// The same API around a handler that blows the fuse.
fn around_fuse<R: Renderer<Body>>(auth: &AuthLayer<R>, fuse: &Fuse) -> Protected {
    let fuse = fuse.clone();
    let handler = get(async move || fuse.blow());
    let router = Router::new().route("/", handler).layer(auth.clone());
    Protected { router, ..Protected::new(auth) }
}

#[tokio::test]
async fn after_a_panic_all_is_as_before() {
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
                Protected { router: router.layer(auth.clone()), ..Protected::new(&auth) }
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
async fn after_a_panic_of_the_inner_service_itself_too() {
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
    for (path, token, status) in [
        ("/", "made-up", StatusCode::UNAUTHORIZED),
        ("/write", token.as_str(), StatusCode::FORBIDDEN),
    ] {
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
async fn who_waited_for_the_same_answer_gets_it() {
    let (bench, fuse) = (Bench::new().await, Fuse::default());
    let it = fuse.clone();
    let requirement = Require::when("test", move |_| it.holds());
    let api = Protected::new(&narrow(&bench).require(requirement).build().unwrap());
    let token = bench.authlete.token().issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    fuse.set(1);
    let waiting: Vec<_> = (0..5).map(|_| request(&api, &token)).collect();
    bench.authlete.arrived(Api::Introspection, 1).await;
    hold.release();
    let outcomes = join_all(waiting).await;
    let good = outcomes.iter().filter(|outcome| outcome.as_ref().is_ok_and(|it| it.status == OK));
    assert_eq!(good.count(), 4);
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn a_panic_in_a_call_is_a_call_that_failed() {
    let (bench, fuse) = (Bench::new().await, Fuse::default());
    let it = fuse.clone();
    let transport = Transport::new(TlsRoots::None, SECOND).unwrap();
    let panicking = tower::ServiceBuilder::new()
        .map_request(move |request: Request<http_body_util::Full<bytes::Bytes>>| {
            it.blow();
            request
        })
        .service(transport);
    let authlete = bench.authlete.client_builder().transport(panicking).build().unwrap();
    let layer = AuthLayer::builder(authlete).clock(bench.clock.clone());
    let auth = layer.max_in_flight(1).max_waiting(0).build().unwrap();
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
async fn a_panic_about_an_extension_leaves_none_under_way() {
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
    while api.handle.health().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((bench.introspections(), bench.authlete.calls(Api::TokenUpdate)), (2, 1));
}
