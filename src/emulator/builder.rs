//! Settings of the emulator.

use std::{sync::Mutex, time::Duration};

use super::{
    proofs::ProofRegistry,
    service::{ClientApplication, EmulatedService, ServiceState},
    store::random,
};
use crate::{
    api::{ApiVersion, Pair, Secret},
    clock::Clock,
};

/// Settings of an [`Emulator`](super::Emulator).
#[derive(Debug, Clone)]
#[must_use = "nothing is started until `start` is called"]
pub struct EmulatorBuilder {
    pub(super) port: u16,
    api_version: ApiVersion,
    service_id: String,
    access_token: Secret,
    scopes: Option<Vec<String>>,
    attributes: Vec<(String, Pair)>,
    pub(super) latency: Duration,
    access_token_duration: Duration,
    refresh_token_duration: Duration,
    certificate_bound_tokens: bool,
    dpop_nonce: Option<String>,
    clock: Clock,
}

impl Default for EmulatorBuilder {
    fn default() -> Self {
        Self {
            port: 0,
            api_version: ApiVersion::default(),
            service_id: "715948317".into(),
            access_token: random().into(),
            scopes: None,
            attributes: Vec::new(),
            latency: Duration::ZERO,
            access_token_duration: Duration::from_secs(3600),
            refresh_token_duration: Duration::from_secs(86_400),
            certificate_bound_tokens: false,
            dpop_nonce: None,
            clock: Clock::system(),
        }
    }
}

impl EmulatorBuilder {
    /// The port to listen on, at 127.0.0.1. Default: 0, any free port.
    pub fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The version of the API. Default: V3.
    pub fn api_version(self, api_version: ApiVersion) -> Self {
        Self { api_version, ..self }
    }

    /// The service ID (V3) or service API key (V2). Default: `715948317`.
    pub fn service_id(mut self, service_id: impl Into<String>) -> Self {
        self.service_id = service_id.into();
        self
    }

    /// The service access token (V3) and the service API secret (V2). Default: random.
    pub fn access_token(mut self, token: impl Into<Secret>) -> Self {
        self.access_token = token.into();
        self
    }

    /// The scopes that the service supports. Default: every scope.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.scopes = Some(scopes.into_iter().map(Into::into).collect());
        self
    }

    /// Adds an attribute to a scope, such as `access_token.duration` (s).
    pub fn scope_attribute(
        mut self,
        scope: impl Into<String>,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        self.attributes.push((scope.into(), Pair::from((key.into(), value.into()))));
        self
    }

    /// A delay before each call is processed, except for unknown paths. Default: 0.
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// The life of access tokens that are created without a duration, in whole seconds. Default: an hour.
    pub fn access_token_duration(self, duration: Duration) -> Self {
        Self { access_token_duration: duration, ..self }
    }

    /// The life of refresh tokens that are created without a duration, in whole seconds. Default: a day.
    pub fn refresh_token_duration(self, duration: Duration) -> Self {
        Self { refresh_token_duration: duration, ..self }
    }

    /// Whether `/auth/token` binds tokens to the certificate that the client presents (RFC 8705).
    /// Default: no.
    pub fn certificate_bound_tokens(self, bound: bool) -> Self {
        Self { certificate_bound_tokens: bound, ..self }
    }

    /// The nonce that DPoP proofs must contain (RFC 9449 §8). Default: none, until a call sets
    /// `dpopNonceRequired`.
    pub fn dpop_nonce(mut self, nonce: impl Into<String>) -> Self {
        self.dpop_nonce = Some(nonce.into());
        self
    }

    /// The clock by which the expiry of tokens and the age of DPoP proofs are judged. Default: the system's.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The service with these settings.
    pub(super) fn service(self) -> EmulatedService {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let credential = self.access_token.expose();
        EmulatedService {
            version: self.api_version,
            id: self.service_id,
            access_token: credential.to_owned(),
            api_secret: credential.to_owned(),
            client: ClientApplication {
                id: 26_478_243_745_571,
                alias: "my-client".into(),
                secret: random(),
            },
            scopes: self.scopes,
            attributes: self.attributes,
            access_token_duration: seconds(self.access_token_duration),
            refresh_token_duration: seconds(self.refresh_token_duration),
            certificate_bound_tokens: self.certificate_bound_tokens,
            clock: self.clock,
            state: Mutex::new(ServiceState {
                proofs: ProofRegistry::new(self.dpop_nonce),
                ..ServiceState::default()
            }),
        }
    }
}
