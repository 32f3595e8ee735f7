//! An in-memory Authlete over a real socket, for development and tests.
//!
//! It answers Authlete's token APIs as they are documented, V3 and V2, so that what is built on it
//! works with the real one. It listens on this machine only. DPoP proofs and certificates that tokens
//! are bound to are verified, at `/auth/token` for the URL in `htu`; HTTP message signatures (`headers`, `targetUri` and
//! `requestBodyContained` of an introspection) are not.
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_authlete::{AuthLayer, TokenInfo, emulator::Emulator};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let authlete = Emulator::start().await;
//! let token = authlete.token().subject("alice").scopes(["read"]).property("plan", "gold").issue().await;
//!
//! let app: Router = Router::new()
//!     .route("/", get(|token: TokenInfo| async move { format!("{:?}", token.subject()) }))
//!     .layer(AuthLayer::new(authlete.authlete()));
//! # let request = http::Request::builder().header("authorization", format!("Bearer {token}"));
//! # let request = request.body(axum::body::Body::empty()).unwrap();
//! # let response = tower::ServiceExt::oneshot(app, request).await.unwrap();
//! # assert_eq!(response.status(), 200);
//! # }
//! ```

mod answer;
mod binding;
mod builder;
mod call;
mod decisions;
mod dpop;
mod ending;
mod error;
mod exchange;
mod faults;
mod form;
mod grants;
mod introspection;
mod management;
mod proofs;
mod server;
mod service;
mod shared;
mod store;
mod ticket;
mod tokens;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

use self::shared::Shared;
pub use self::{
    builder::EmulatorBuilder,
    faults::{Api, Fault, RetryAfter},
    tokens::{TokenBuilder, TokenPair},
};
use crate::{
    api::{ApiVersion, Authlete, AuthleteBuilder},
    clock::Clock,
};

/// An Authlete of your own. It ends when it is dropped.
pub struct Emulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: AbortHandle,
}

impl Emulator {
    /// An emulator of API V3 on a free port, which supports every scope.
    ///
    /// # Panics
    /// If no port of 127.0.0.1 can be had. [`EmulatorBuilder::start`] tells it by an error.
    pub async fn start() -> Self {
        match Self::builder().start().await {
            Ok(emulator) => emulator,
            Err(error) => panic!("the emulator could not listen on 127.0.0.1: {error}"),
        }
    }

    /// Settings for an emulator.
    pub fn builder() -> EmulatorBuilder {
        EmulatorBuilder::default()
    }

    /// A client that is set up for this emulator.
    ///
    /// # Panics
    /// If the emulator was given a service ID or credentials that no client can be set up with.
    #[must_use]
    pub fn authlete(&self) -> Authlete {
        match self.client_builder().build() {
            Ok(authlete) => authlete,
            Err(error) => panic!("no client can be set up for this emulator: {error}"),
        }
    }

    /// Settings of a client for this emulator, to be changed further.
    pub fn client_builder(&self) -> AuthleteBuilder {
        Authlete::builder()
            .base_url(self.base_url())
            .api_version(self.api_version())
            .service_id(self.service_id())
            .service_access_token(self.service_access_token())
            .service_api_secret(self.service_api_secret())
    }

    /// A token to be issued.
    pub fn token(&self) -> TokenBuilder<'_> {
        TokenBuilder::new(&self.shared.service)
    }

    /// `AUTHLETE_BASE_URL`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `AUTHLETE_API_VERSION`.
    #[must_use]
    pub fn api_version(&self) -> ApiVersion {
        self.shared.service.version
    }

    /// `AUTHLETE_SERVICE_APIKEY`: the service ID (V3) or service API key (V2).
    #[must_use]
    pub fn service_id(&self) -> &str {
        &self.shared.service.id
    }

    /// `AUTHLETE_SERVICE_ACCESSTOKEN`, for V3.
    #[must_use]
    pub fn service_access_token(&self) -> &str {
        &self.shared.service.access_token
    }

    /// `AUTHLETE_SERVICE_APISECRET`, for V2.
    #[must_use]
    pub fn service_api_secret(&self) -> &str {
        &self.shared.service.api_secret
    }

    /// The ID of a confidential client that may use every grant.
    #[must_use]
    pub fn client_id(&self) -> i64 {
        self.shared.service.client.id
    }

    /// The alias of that client.
    #[must_use]
    pub fn client_id_alias(&self) -> &str {
        &self.shared.service.client.alias
    }

    /// The secret of that client.
    #[must_use]
    pub fn client_secret(&self) -> &str {
        &self.shared.service.client.secret
    }

    /// The clock by which tokens expire.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.service.clock
    }

    /// How many calls of an API have arrived, refused ones included.
    #[must_use]
    pub fn calls(&self, api: Api) -> u64 {
        *self.shared.calls[api as usize].borrow()
    }

    /// How many calls have arrived in all.
    #[must_use]
    pub fn total_calls(&self) -> u64 {
        Api::ALL.into_iter().map(|api| self.calls(api)).sum()
    }

    /// Waits until so many calls of an API have arrived since the start. What they are told is decided
    /// by then, though it may not have been sent yet.
    pub async fn arrived(&self, api: Api, calls: u64) {
        let mut arrived = self.shared.calls[api as usize].subscribe();
        // The sender lives as long as the emulator does.
        let _ = arrived.wait_for(|arrived| *arrived >= calls).await;
    }

    /// Holds the answers of an API back until the hold is released or dropped. What they say is
    /// decided when the calls arrive: a test can have a token revoked between a call's decision and
    /// its answer.
    #[must_use = "answers are held back for as long as the hold is kept"]
    pub fn hold(&self, api: Api) -> Hold {
        let (sender, receiver) = watch::channel(false);
        let mut holds = self.shared.holds();
        holds.retain(|(_, hold)| hold.has_changed().is_ok());
        holds.push((api, receiver));
        Hold(sender)
    }

    /// Lets something go wrong.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults().add(fault);
    }

    /// Lets nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// Changes the nonce that DPoP proofs have to hold. The one before it is good for one more proof.
    pub fn set_dpop_nonce(&self, nonce: Option<String>) {
        self.shared.service.state().proofs.set_nonce(nonce);
    }

    /// Ends a token, as if somebody else had revoked it; false if there was none.
    pub fn revoke(&self, access_token: &str) -> bool {
        let mut state = self.shared.service.state();
        let id = state.store.by_access(access_token).map(|record| record.id);
        id.and_then(|id| state.store.remove(id)).is_some()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("address", &self.address)
            .field("api_version", &self.api_version())
            .finish_non_exhaustive()
    }
}

/// Answers that are held back; see [`Emulator::hold`].
#[derive(Debug)]
pub struct Hold(watch::Sender<bool>);

impl Hold {
    /// Lets the answers go.
    pub fn release(self) {
        self.0.send_replace(true);
    }
}

impl EmulatorBuilder {
    /// Starts the emulator.
    ///
    /// # Errors
    /// If the port cannot be had.
    pub async fn start(self) -> io::Result<Emulator> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            latency: self.latency,
            service: self.service(),
            calls: Api::ALL.iter().map(|_| watch::Sender::new(0)).collect(),
            faults: Mutex::default(),
            holds: Mutex::default(),
        });
        let server = tokio::spawn(server::serve(listener, shared.clone())).abort_handle();
        Ok(Emulator { shared, address, server })
    }
}
