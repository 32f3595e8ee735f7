//! An invalidated token is introspected again, and older answers are not used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures_util::future::join_all;
use tower_authlete::{AuthHandle, CachePolicy, Refresh, emulator::Api};

use crate::{
    holder::Holder,
    support::{Bench, NEW, OK, SECOND, UNAUTHORIZED, UNAVAILABLE, due, rotation},
};

#[tokio::test]
async fn a_forgotten_token_is_introspected_again() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().issue().await;
    let other = bench.authlete.token().issue().await;
    api.get(&token).await;
    api.get(&other).await;
    api.handle.forget(&token);
    api.get(&token).await;
    api.get(&other).await;
    assert_eq!(bench.introspections(), 3);
    api.handle.forget_all();
    api.get(&token).await;
    api.get(&other).await;
    assert_eq!(bench.introspections(), 5);
}

#[tokio::test]
async fn forget_all_invalidates_tokens_in_the_hot_cache() {
    let bench = Bench::new().await;
    let api = bench.api();
    let token = bench.authlete.token().subject("alice").issue().await;
    for _ in 0..5 {
        assert_eq!(api.get(&token).await.status, OK);
    }
    assert!(bench.authlete.revoke(&token));
    api.handle.forget_all();
    assert_eq!(api.get(&token).await.status, UNAUTHORIZED);
}

#[tokio::test]
async fn an_answer_in_flight_is_not_used_for_a_forgotten_token() {
    for forget_all in [false, true] {
        let bench = Bench::new().await;
        let api = bench.api();
        let token = bench.authlete.token().issue().await;
        let hold = bench.authlete.hold(Api::Introspection);
        let request = api.spawn_get(&token);
        bench.authlete.arrived(Api::Introspection, 1).await;
        // Another server revokes the token, and calls the handle.
        bench.authlete.revoke(&token);
        if forget_all {
            api.handle.forget_all();
        } else {
            api.handle.forget(&token);
        }
        hold.release();
        assert_eq!(request.await.unwrap().status, UNAUTHORIZED);
        assert_eq!(bench.introspections(), 2);
    }
}

#[tokio::test]
async fn a_proof_that_was_sent_is_not_sent_again_for_a_token_that_is_forgotten_meanwhile() {
    let bench = Bench::new().await;
    let holder = Holder::new(&bench).await;
    let hold = bench.authlete.hold(Api::Introspection);
    let waiting = holder.spawn_get();
    bench.authlete.arrived(Api::Introspection, 1).await;
    holder.api.handle.forget(&holder.token);
    drop(hold);
    // It is unknown whether the token is still valid.
    assert_eq!(waiting.await.unwrap().status, UNAVAILABLE);
}

#[tokio::test]
async fn a_forgotten_token_has_no_overlap() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
    let new = api.get(&old).await.header(NEW).to_owned();
    assert!(bench.authlete.revoke(&new));
    assert_eq!(api.get(&old).await.status, OK, "it is known from the cache");
    api.handle.forget(&old);
    for value in [&old, &new] {
        assert_eq!(api.get(value).await.status, UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_token_that_is_forgotten_during_its_rotation_is_introspected_again() {
    let bench = Bench::new().await;
    let (api, old) = due(&bench, rotation().overlap(5 * SECOND)).await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let request = api.spawn_get(&old);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    api.handle.forget(&old);
    hold.release();
    let new = request.await.unwrap().header(NEW).to_owned();
    let before = bench.introspections();
    assert_eq!(api.get(&old).await.status, UNAUTHORIZED);
    assert_eq!(api.get(&new).await.status, OK);
    assert_eq!(bench.introspections() - before, 2);
}

/// Invalidates tokens that nobody uses, ten thousand a second and more, as long as it lives: those of any
/// shard, again and again.
struct Others(Arc<AtomicBool>, Option<JoinHandle<u64>>);

impl Others {
    fn of(handle: &AuthHandle) -> Self {
        let (stop, handle) = (Arc::new(AtomicBool::new(false)), handle.clone());
        let stopped = stop.clone();
        let invalidating = std::thread::spawn(move || {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                handle.forget(&format!("other-{count}"));
                count += 1;
            }
            count
        });
        Self(stop, Some(invalidating))
    }

    /// So many tokens of all shards at once.
    fn all_shards(handle: &AuthHandle) {
        (0..20_000).for_each(|other| handle.forget(&format!("other-{other}")));
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        assert!(self.1.take().unwrap().join().unwrap() > 0);
    }
}

#[tokio::test]
async fn invalidations_of_other_tokens_cost_no_call_and_refuse_nobody() {
    let bench = Bench::new().await;
    // Nothing but the outcome of the call can be used for tokens that are refused.
    let api =
        bench.api_with(|layer| layer.cache(CachePolicy::new().negative_max_age(Duration::ZERO)));
    let _others = Others::of(&api.handle);
    for _ in 0..100 {
        let token = bench.authlete.token().issue().await;
        let requests = join_all((0..5).map(|_| api.get(&token))).await;
        assert!(requests.iter().all(|answer| answer.status == OK));
        assert_eq!(api.get("no-token").await.status, UNAUTHORIZED);
    }
    assert_eq!(bench.introspections(), 200);
}

#[tokio::test]
async fn nor_those_while_a_call_is_made() {
    let bench = Bench::new().await;
    let api =
        bench.api_with(|layer| layer.cache(CachePolicy::new().negative_max_age(Duration::ZERO)));
    let holder = Holder::with(
        &bench,
        |dpop| dpop,
        |layer| layer.cache(CachePolicy::new().negative_max_age(Duration::ZERO)),
    )
    .await;
    let token = bench.authlete.token().issue().await;
    let hold = bench.authlete.hold(Api::Introspection);
    let requests = [api.spawn_get(&token), api.spawn_get(&token), holder.spawn_get()];
    bench.authlete.arrived(Api::Introspection, 2).await;
    Others::all_shards(&api.handle);
    Others::all_shards(&holder.api.handle);
    hold.release();
    for request in requests {
        assert_eq!(request.await.unwrap().status, OK);
    }
    assert_eq!(bench.introspections(), 2);
    // A proof whose token is refused is told so, though that is kept nowhere.
    bench.authlete.revoke(&holder.token);
    holder.api.handle.forget(&holder.token);
    let hold = bench.authlete.hold(Api::Introspection);
    let refused = holder.spawn_get();
    bench.authlete.arrived(Api::Introspection, 3).await;
    Others::all_shards(&holder.api.handle);
    hold.release();
    assert_eq!(refused.await.unwrap().status, UNAUTHORIZED);
}

#[tokio::test]
async fn nor_those_while_a_token_is_extended() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND).wait();
    // Without a cache, a request whose extension was disturbed would ask once more.
    let api = bench.api_with(|layer| layer.cache(CachePolicy::disabled()).refresh(refresh));
    let token = bench.authlete.token().expires_in(9 * SECOND).issue().await;
    let hold = bench.authlete.hold(Api::TokenUpdate);
    let request = api.spawn_get(&token);
    bench.authlete.arrived(Api::TokenUpdate, 1).await;
    Others::all_shards(&api.handle);
    hold.release();
    assert_eq!(request.await.unwrap().status, OK);
    assert_eq!((bench.introspections(), bench.updates()), (1, 1));
}
