//! One call for many requests, whose outcome all of them share.

use futures_util::future::join_all;
use http::StatusCode;
use tower_authlete::emulator::{Api, Fault};

use crate::support::Bench;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_requests_make_one_call() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    let requests = (0..1000).map(|_| {
        let (api, token) = (api.clone(), token.clone());
        tokio::spawn(async move { api.get(&token).await })
    });
    for answer in join_all(requests.collect::<Vec<_>>()).await {
        assert_eq!(answer.unwrap().body, "alice");
    }
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn twenty_identical_bad_requests_make_one_call() {
    let bench = Bench::new().await;
    let api = bench.api();
    let answers = join_all((0..20).map(|_| api.get("rubbish"))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::UNAUTHORIZED));
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn tokens_do_not_wait_for_each_other() {
    let bench = Bench::new().await;
    let api = bench.api();
    let (one, two) = (bench.authlete.token().issue().await, bench.authlete.token().issue().await);
    let hold = bench.authlete.hold(Api::Introspection);
    let first = tokio::spawn({
        let (api, one) = (api.clone(), one.clone());
        async move { api.get(&one).await }
    });
    bench.authlete.arrived(Api::Introspection, 1).await;
    let second = tokio::spawn(async move { api.get(&two).await });
    // The second call arrives while the first is still unanswered.
    bench.authlete.arrived(Api::Introspection, 2).await;
    hold.release();
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
    assert_eq!(second.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_failure_is_shared_and_not_kept() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    bench.authlete.fault(Fault::status(503).times(1));
    let answers = join_all((0..20).map(|_| api.get(&token))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(bench.introspections(), 1);
    assert_eq!(api.get(&token).await.status, StatusCode::OK);
    assert_eq!(bench.introspections(), 2);
}

#[tokio::test]
async fn a_leader_that_goes_away_fails_nobody() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let request = || {
        let (api, token) = (api.clone(), token.clone());
        tokio::spawn(async move { api.get(&token).await })
    };
    let leader = request();
    bench.authlete.arrived(Api::Introspection, 1).await;
    let follower = request();
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    hold.release();
    assert_eq!(follower.await.unwrap().body, "alice");
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_any_more_is_kept() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let only = tokio::spawn({
        let (api, token) = (api.clone(), token.clone());
        async move { api.get(&token).await }
    });
    bench.authlete.arrived(Api::Introspection, 1).await;
    only.abort();
    hold.release();
    // Whether the answer has landed by now or is still on its way: no second call.
    assert_eq!(api.get(&token).await.body, "alice");
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn without_a_cache_no_request_goes_by_the_answer_to_another() {
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.no_cache());
    let token = bench.authlete.token().issue().await;
    let answers = join_all((0..20).map(|_| api.get(&token))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(bench.introspections(), 20);
}

#[test]
fn a_request_outside_of_a_runtime_does_not_block_those_that_come_after() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::new());
    let api = bench.api();
    let token = runtime.block_on(bench.authlete.token().subject("alice").issue());
    // There is nothing to spawn the call on: the request panics, and leaves nothing behind.
    let outside =
        std::panic::AssertUnwindSafe(|| futures_util::FutureExt::now_or_never(api.get(&token)));
    assert!(std::panic::catch_unwind(outside).is_err());
    assert_eq!(runtime.block_on(api.get(&token)).body, "alice");
}
