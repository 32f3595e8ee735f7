//! An Authlete on a socket of this machine, which says of tokens what their first letters tell.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use bytes::Bytes;
use tokio::{net::TcpListener, sync::Semaphore};
use tower_authlete::{Authlete, ConfigError, api::AuthleteBuilder};

use crate::{
    BoxError,
    authority::{answer_about_bad, answer_about_good},
};

/// What made-up tokens begin with.
pub const BAD: &str = "bad";

/// A server that tells good tokens from bad ones, for as long as its runtime runs.
pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<Answers>,
}

struct Answers {
    good: Bytes,
    bad: Bytes,
    calls_for_good: AtomicU64,
    calls_for_bad: AtomicU64,
    connections: AtomicU64,
    /// Answers need a permit, so that they can be held back.
    gate: Semaphore,
}

impl Upstream {
    /// Starts it in this runtime.
    ///
    /// # Errors
    /// If it cannot listen, or the emulator does not tell what answers are like.
    pub async fn start() -> Result<Self, BoxError> {
        let state = Arc::new(Answers {
            good: answer_about_good().await?.into(),
            bad: answer_about_bad().await?.into(),
            calls_for_good: AtomicU64::default(),
            calls_for_bad: AtomicU64::default(),
            connections: AtomicU64::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, counted) = (listener.local_addr()?, state.clone());
        let listener = listener.tap_io(move |stream| {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            let _ = stream.set_nodelay(true);
        });
        let router = Router::new().fallback(introspect).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, state })
    }

    /// Settings of a client of it.
    pub fn client_builder(&self) -> AuthleteBuilder {
        let authlete = Authlete::builder().base_url(format!("http://{}", self.address));
        authlete.service_id("1").service_access_token("secret")
    }

    /// A client of it.
    ///
    /// # Errors
    /// Never.
    pub fn authlete(&self) -> Result<Authlete, ConfigError> {
        self.client_builder().build()
    }

    #[must_use]
    pub fn calls_for_good(&self) -> u64 {
        self.state.calls_for_good.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn calls_for_bad(&self) -> u64 {
        self.state.calls_for_bad.load(Ordering::Relaxed)
    }

    /// How many connections were made to it so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Answers no call until [`release`](Self::release).
    pub fn hold(&self) {
        self.state.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn release(&self) {
        self.state.gate.add_permits(Semaphore::MAX_PERMITS);
    }
}

async fn introspect(State(state): State<Arc<Answers>>, body: Bytes) -> Response {
    let marker = [br#""token":""#, BAD.as_bytes()].concat();
    let bad = body.windows(marker.len()).any(|part| part == marker);
    let (calls, answer) = match bad {
        true => (&state.calls_for_bad, &state.bad),
        false => (&state.calls_for_good, &state.good),
    };
    calls.fetch_add(1, Ordering::Relaxed);
    // Closed is what the gate never is.
    let _open = state.gate.acquire().await;
    ([(CONTENT_TYPE, "application/json")], answer.clone()).into_response()
}
