//! What stops when the last handle of a layer is dropped, or when no request waits any more.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower_authlete::{
    AuthLayer, AuthLayerBuilder, Authlete, CachePolicy, MalformedCredentials, Refresh, RequestHead,
    TokenSource, emulator::Api,
};

use crate::support::{Bench, OK, Protected, SECOND, resilience};

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

/// Waits until all parts of a layer are dropped.
async fn gone(left: &Weak<()>) {
    let gone = async {
        while left.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(60 * SECOND, gone).await.expect("something keeps the layer alive");
}

#[tokio::test]
async fn nothing_of_a_layer_is_left_when_its_last_handle_is_dropped() {
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
        let (layer, left) = marked(bench.layer().resilience(resilience().deadline(deadline)));
        let api = Protected::new(&layer.build().unwrap());
        let token = bench.authlete.token().issue().await;
        let hold = bench.authlete.hold(Api::Introspection);
        let only = api.spawn_get(&token);
        bench.authlete.arrived(Api::Introspection, 1).await;
        only.abort();
        // The shorter deadline may be over before the request goes away.
        assert!(only.await.is_err() || !answered);
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
async fn a_revalidation_ends_though_the_layer_is_dropped() {
    let bench = Bench::new().await;
    let (layer, left) =
        marked(bench.layer().cache(CachePolicy::new().revalidate_before(20 * SECOND)));
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
async fn an_extension_is_finished_though_the_layer_is_dropped() {
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
    assert_eq!(bench.updates(), 1);
}

#[tokio::test]
async fn connections_are_closed_when_the_layer_is_dropped() {
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
    // The pool has kept it so far, and would keep it for 20 s.
    let end = tokio::time::timeout(10 * SECOND, connection.read_to_end(&mut Vec::new())).await;
    assert!(end.expect("the connection is still open").is_ok());
}
