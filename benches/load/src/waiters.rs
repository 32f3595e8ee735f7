//! Many requests that wait for one answer.

use std::{future::poll_fn, pin::Pin, task::Poll};

use tower::{Layer, Service, service_fn};
use tower_authlete::AuthLayer;

use crate::{
    BoxError,
    authority::{handler, request},
    upstream::Upstream,
};

/// So many requests with the token of a number, which is not known yet. `waiting` is called while all
/// of them wait; what it gives is told.
///
/// # Errors
/// If one of them did not wait, or was refused.
pub async fn wait<T>(
    upstream: &Upstream,
    layer: &AuthLayer,
    many: u64,
    number: u64,
    waiting: impl FnOnce() -> T,
) -> Result<T, BoxError> {
    let mut service = layer.layer(service_fn(handler));
    let before = upstream.calls_for_good();
    upstream.hold();
    let mut futures: Vec<Pin<Box<_>>> =
        (0..many).map(|_| Box::pin(service.call(request(number)))).collect();
    let answered = poll_fn(|context| {
        let ready = futures.iter_mut().filter_map(|it| match it.as_mut().poll(context) {
            Poll::Pending => None,
            Poll::Ready(_) => Some(()),
        });
        Poll::Ready(ready.count())
    });
    if answered.await > 0 {
        return Err("a request was answered though Authlete was not".into());
    }
    while upstream.calls_for_good() == before {
        tokio::task::yield_now().await;
    }
    let told = waiting();
    upstream.release();
    for future in futures {
        let status = future.await?.status();
        if !status.is_success() {
            return Err(format!("who waited was refused: {status}").into());
        }
    }
    Ok(told)
}
