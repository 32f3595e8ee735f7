//! A client of the emulator whose calls are counted.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::extract::Request;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::{ServiceExt, service_fn};
use tower_authlete::{
    Authlete,
    api::{TlsRoots, Transport},
    emulator::{Api, Emulator},
};

use super::time_scale::TimeScale;

/// The calls of a client that are under way.
#[derive(Default)]
pub(crate) struct Calls {
    all: AtomicUsize,
    begun: AtomicUsize,
    checks: AtomicUsize,
    most_checks: AtomicUsize,
}

struct Call(Arc<Calls>, bool);

impl Calls {
    fn begin(self: &Arc<Self>, check: bool) -> Call {
        self.all.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        if check {
            let checks = self.checks.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_checks.fetch_max(checks, Ordering::SeqCst);
        }
        Call(self.clone(), check)
    }

    pub(crate) fn under_way(&self) -> usize {
        self.all.load(Ordering::SeqCst)
    }

    /// How many there were so far.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// How many checks there were at a time, at most.
    pub(crate) fn most_checks(&self) -> usize {
        self.most_checks.load(Ordering::SeqCst)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::SeqCst);
        self.0.checks.fetch_sub(usize::from(self.1), Ordering::SeqCst);
    }
}

/// Counts calls to the end of their answers, of which there are so many at a time at most.
pub(crate) fn client(
    authlete: &Emulator,
    time_scale: TimeScale,
    calls: Arc<Calls>,
    most: usize,
) -> Authlete {
    let room = Arc::new(Semaphore::new(most));
    let transport = Transport::new(TlsRoots::None, time_scale.deadline).unwrap();
    let counting = service_fn(move |request: Request<_>| {
        let call = calls.begin(request.uri().path().ends_with(Api::Introspection.path()));
        let (transport, room) = (transport.clone(), room.clone());
        async move {
            let place = room.acquire_owned().await?;
            let response = transport.oneshot(request).await?;
            let counted = response.map(|body| {
                body.map_frame(move |frame| {
                    let _ = (&call, &place);
                    frame
                })
            });
            Ok::<_, tower::BoxError>(counted)
        }
    });
    authlete.client_builder().deadline(time_scale.deadline).transport(counting).build().unwrap()
}
