//! Transports that observe calls or hold responses back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::Request;
use tokio::sync::Notify;
use tower::{ServiceExt, util::MapRequest};
use tower_authlete::{
    Authlete,
    api::{AuthleteBuilder, RequestBody, TlsRoots, Transport},
};

use crate::support::{Bench, SECOND};

/// The default transport.
pub(crate) fn transport() -> Transport {
    Transport::new(TlsRoots::None, SECOND).unwrap()
}

impl Bench {
    /// A client whose calls are observed before they are made.
    pub(crate) fn watched(
        &self,
        watch: impl Fn(&Request<RequestBody>) + Clone + Send + Sync + 'static,
    ) -> AuthleteBuilder {
        let transport = MapRequest::new(transport(), move |request| {
            watch(&request);
            request
        });
        self.authlete.client_builder().transport(transport)
    }
}

/// Holds the first response of an API back until it is released.
#[derive(Default)]
pub(crate) struct Gate {
    reached: Notify,
    opened: Notify,
    used: AtomicBool,
}

impl Gate {
    /// A client that calls through a gate.
    pub(crate) fn before(bench: &Bench, api: &'static str) -> (Authlete, Arc<Self>) {
        let (gate, transport) = (Arc::<Self>::default(), transport());
        let it = gate.clone();
        let gated = tower::service_fn(move |request: Request<RequestBody>| {
            let (gate, transport) = (it.clone(), transport.clone());
            let held = request.uri().path().ends_with(api);
            async move {
                let answer = transport.oneshot(request).await;
                if held {
                    gate.pass().await;
                }
                answer
            }
        });
        (bench.authlete.client_builder().transport(gated).build().unwrap(), gate)
    }

    /// Holds the first response back.
    pub(crate) async fn pass(&self) {
        if !self.used.swap(true, Ordering::SeqCst) {
            self.reached.notify_one();
            self.opened.notified().await;
        }
    }

    /// Waits until a response is held back.
    pub(crate) async fn holds(&self) {
        self.reached.notified().await;
    }

    pub(crate) fn open(&self) {
        self.opened.notify_one();
    }
}
