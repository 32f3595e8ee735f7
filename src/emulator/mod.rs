//! An in-memory Authlete over a real socket, for development and tests.
//!
//! It implements Authlete's token APIs, V3 and V2, as documented. It listens on 127.0.0.1 only. DPoP
//! proofs and the certificates of bound tokens are verified; at `/auth/token`, proofs must be for the URL
//! in `htu`. HTTP message signatures (`headers`, `targetUri` and `requestBodyContained` of an introspection)
//! are not verified.
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

mod binding;
mod builder;
mod call;
mod client_request;
mod dpop;
mod error;
mod exchange;
mod faults;
mod grants;
mod introspection;
mod issuance;
mod management;
mod pending;
mod proofs;
mod response;
mod revocation;
mod server;
mod service;
mod state;
mod store;
mod tokens;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

use self::state::EmulatorState;
pub use self::{
    builder::EmulatorBuilder,
    faults::{Api, Fault, RetryAfter},
    tokens::{TokenBuilder, TokenPair},
};
use crate::{
    api::{ApiVersion, Authlete, AuthleteBuilder},
    clock::Clock,
};

/// An emulated Authlete service. It stops when it is dropped.
pub struct Emulator {
    shared: Arc<EmulatorState>,
    address: SocketAddr,
    server: AbortHandle,
}

impl Emulator {
    /// Starts an emulator with default settings.
    ///
    /// # Panics
    /// If it cannot listen on 127.0.0.1. [`EmulatorBuilder::start`] returns an error instead.
    pub async fn start() -> Self {
        match Self::builder().start().await {
            Ok(emulator) => emulator,
            Err(error) => panic!("the emulator could not listen on 127.0.0.1: {error}"),
        }
    }

    /// Settings of an emulator.
    pub fn builder() -> EmulatorBuilder {
        EmulatorBuilder::default()
    }

    /// A client of this emulator.
    ///
    /// # Panics
    /// If [`EmulatorBuilder`] was given a service ID or credentials that a client refuses.
    #[must_use]
    pub fn authlete(&self) -> Authlete {
        match self.client_builder().build() {
            Ok(authlete) => authlete,
            Err(error) => panic!("no client can be set up for this emulator: {error}"),
        }
    }

    /// Settings of a client of this emulator.
    pub fn client_builder(&self) -> AuthleteBuilder {
        Authlete::builder()
            .base_url(self.base_url())
            .api_version(self.api_version())
            .service_id(self.service_id())
            .service_access_token(self.service_access_token())
            .service_api_secret(self.service_api_secret())
    }

    /// Builds an access token.
    pub fn token(&self) -> TokenBuilder<'_> {
        TokenBuilder::new(&self.shared.service)
    }

    /// The base URL (`AUTHLETE_BASE_URL`).
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The version of the API (`AUTHLETE_API_VERSION`).
    #[must_use]
    pub fn api_version(&self) -> ApiVersion {
        self.shared.service.version
    }

    /// The service ID (V3) or service API key (V2) (`AUTHLETE_SERVICE_APIKEY`).
    #[must_use]
    pub fn service_id(&self) -> &str {
        &self.shared.service.id
    }

    /// The service access token, for V3 (`AUTHLETE_SERVICE_ACCESSTOKEN`).
    #[must_use]
    pub fn service_access_token(&self) -> &str {
        &self.shared.service.access_token
    }

    /// The service API secret, for V2 (`AUTHLETE_SERVICE_APISECRET`).
    #[must_use]
    pub fn service_api_secret(&self) -> &str {
        &self.shared.service.api_secret
    }

    /// The ID of the service's only client, which is confidential and may use every grant.
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

    /// The clock by which expiry is judged.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.service.clock
    }

    /// How many calls of an API have been processed, including refused ones.
    #[must_use]
    pub fn calls(&self, api: Api) -> u64 {
        *self.shared.calls[api as usize].borrow()
    }

    /// How many calls of all APIs have been processed.
    #[must_use]
    pub fn total_calls(&self) -> u64 {
        Api::ALL.into_iter().map(|api| self.calls(api)).sum()
    }

    /// Waits until [`calls`](Self::calls) of an API is at least `calls`. The content of these responses is
    /// determined by then, but they may not have been sent yet.
    pub async fn arrived(&self, api: Api, calls: u64) {
        let mut arrived = self.shared.calls[api as usize].subscribe();
        // The sender lives as long as the emulator does.
        let _ = arrived.wait_for(|arrived| *arrived >= calls).await;
    }

    /// Holds the responses of an API back until the [`Hold`] is released or dropped. Their content is
    /// determined when the calls arrive, so that a test can revoke a token between that and the response.
    #[must_use = "responses are held back until the hold is dropped"]
    pub fn hold(&self, api: Api) -> Hold {
        let (sender, receiver) = watch::channel(false);
        let mut holds = self.shared.holds();
        holds.retain(|(_, hold)| hold.has_changed().is_ok());
        holds.push((api, receiver));
        Hold(sender)
    }

    /// Injects a fault.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults().add(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// Changes the nonce that DPoP proofs must contain. One more proof may contain the previous nonce.
    pub fn set_dpop_nonce(&self, nonce: Option<String>) {
        self.shared.service.state().proofs.set_nonce(nonce);
    }

    /// Revokes a token without a call, as another server would do; false if there was none.
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

/// Holds responses back; see [`Emulator::hold`].
#[derive(Debug)]
pub struct Hold(watch::Sender<bool>);

impl Hold {
    /// Sends the responses.
    pub fn release(self) {
        self.0.send_replace(true);
    }
}

impl EmulatorBuilder {
    /// Starts the emulator. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// If it cannot listen on the port.
    pub async fn start(self) -> io::Result<Emulator> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(EmulatorState {
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
