//! A check ends by its deadline, also if it has to be begun anew.

use std::{sync::mpsc, time::Duration};

use http::StatusCode;
use tower_authlete::emulator::Api;

use crate::support::Bench;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_request_whose_call_is_overtaken_by_a_change_takes_no_longer_than_others() {
    // While something blocks, tokio does not move its clock by itself.
    let (_keep, blocked) = mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || blocked.recv());
    let bench = Bench::new().await;
    let api = bench.api_with(|layer| layer.check_deadline(3 * SECOND));
    let token = bench.authlete.token().issue().await;
    let first = bench.authlete.hold(Api::Introspection);
    let request = {
        let (api, token) = (api.clone(), token.clone());
        tokio::spawn(async move { api.get(&token).await.status })
    };
    bench.authlete.arrived(Api::Introspection, 1).await;
    tokio::time::advance(2 * SECOND).await;
    api.handle.forget(&token);
    let _second = bench.authlete.hold(Api::Introspection);
    first.release();
    bench.authlete.arrived(Api::Introspection, 2).await;
    tokio::time::advance(2 * SECOND).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(request.is_finished(), "it waits on");
    assert_eq!(request.await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
}
