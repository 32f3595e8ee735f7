//! A check ends by its deadline, whatever it waits for.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use http::header::RETRY_AFTER;
use tower_authlete::{
    AuthLayer, ProofId, Refresh, Remembered, Remembering, ReplayStore,
    emulator::{Api, Fault},
    resilience::{Resilience, Retry},
};

use crate::{
    holder::Holder,
    support::{
        Bench, OK, Protected, SECOND, UNAVAILABLE, finished, let_tasks_run, resilience,
        stop_auto_advance,
    },
};

#[tokio::test]
async fn a_check_is_bounded_by_its_deadline() {
    let bench = Bench::new().await;
    // Calls themselves could take for ever.
    let authlete = bench.authlete.client_builder().deadline(3600 * SECOND).build().unwrap();
    let auth = AuthLayer::builder(authlete)
        .resilience(Resilience::new().deadline(Duration::from_millis(50)).max_in_flight(1))
        .build();
    let api = Protected::new(&auth.unwrap());
    let _hold = bench.authlete.hold(Api::Introspection);
    // A leader, a waiter, and a check that waits for a permit.
    let answers = join_all([api.get("one"), api.get("one"), api.get("two")]);
    let answers = tokio::time::timeout(60 * SECOND, answers).await.unwrap();
    assert!(answers.iter().all(|answer| answer.status == UNAVAILABLE));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_begun_anew_keeps_its_deadline() {
    let _keep = stop_auto_advance();
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.resilience(resilience().deadline(3 * SECOND)));
    let token = bench.authlete.token().issue().await;
    let first = bench.authlete.hold(Api::Introspection);
    let request = api.spawn_get(&token);
    bench.authlete.arrived(Api::Introspection, 1).await;
    tokio::time::advance(2 * SECOND).await;
    api.handle.forget(&token);
    let _second = bench.authlete.hold(Api::Introspection);
    first.release();
    bench.authlete.arrived(Api::Introspection, 2).await;
    tokio::time::advance(2 * SECOND).await;
    assert_eq!(finished(request).await.status, UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_is_waited_for_counts_for_the_deadline() {
    let _keep = stop_auto_advance();
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).wait();
    let api = bench
        .api_with(|layer| layer.refresh(refresh).resilience(resilience().deadline(3 * SECOND)));
    let token = bench.authlete.token().expires_in(5 * SECOND).issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let _extension = bench.authlete.hold(Api::TokenUpdate);
    let request = api.spawn_get(&token);
    bench.authlete.arrived(Api::Introspection, 1).await;
    tokio::time::advance(2 * SECOND).await;
    hold.release();
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    tokio::time::advance(SECOND).await;
    assert_eq!(finished(request).await.status, OK);
}

/// A store that does not answer at once.
struct Remote;

impl ReplayStore for Remote {
    fn remember(&self, _: ProofId, _: SystemTime, _: SystemTime) -> Remembering<'_> {
        Box::pin(async {
            tokio::task::yield_now().await;
            Remembered::New
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_an_extension_leaves_time_for_the_replay_store() {
    let _keep = stop_auto_advance();
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).wait();
    let holder = Holder::with(
        &bench,
        |dpop| dpop.replay_store(Remote),
        |layer| layer.refresh(refresh).resilience(resilience().deadline(3 * SECOND)),
    );
    let holder = holder.await.with_token(|token| token.expires_in(9 * SECOND)).await;
    let _extension = bench.authlete.hold(Api::TokenUpdate);
    let request = holder.spawn_get();
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    for _ in 0..12 {
        tokio::time::advance(SECOND / 4).await;
        let_tasks_run().await;
    }
    assert_eq!(finished(request).await.status, OK);
}

/// A store that never answers.
struct Silent;

impl ReplayStore for Silent {
    fn remember(&self, _: ProofId, _: SystemTime, _: SystemTime) -> Remembering<'_> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_store_that_does_not_answer_is_waited_for_until_the_deadline() {
    let _keep = stop_auto_advance();
    let bench = Bench::new().await;
    let holder = Holder::with(
        &bench,
        |dpop| dpop.replay_store(Silent),
        |layer| layer.resilience(resilience().deadline(3 * SECOND)),
    );
    let request = holder.await.spawn_get();
    bench.authlete.arrived(Api::Introspection, 1).await;
    tokio::time::advance(3 * SECOND).await;
    assert_eq!(finished(request).await.status, UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_would_come_after_the_deadline_is_not_waited_for() {
    let _keep = stop_auto_advance();
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| {
        layer.resilience(
            resilience()
                .retry(Retry::times(2).backoff(Duration::ZERO))
                .deadline(Duration::from_millis(2500)),
        )
    });
    bench.authlete.fault(Fault::status(429).retry_after(2));
    let request = api.spawn_get("token");
    bench.authlete.arrived(Api::Introspection, 1).await;
    let_tasks_run().await;
    tokio::time::advance(2 * SECOND).await;
    bench.authlete.arrived(Api::Introspection, 2).await;
    assert_eq!(finished(request).await.header(RETRY_AFTER), "2");
}
