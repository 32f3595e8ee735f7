//! The emulated Authlete service: its settings and its tokens.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::json;

use super::{
    dpop::{ProofContext, VerifiedProof, verify},
    pending::PendingTokenRequest,
    proofs::{ProofError, ProofRegistry},
    store::{TokenRecord, TokenRecords},
};
use crate::{
    api::{ApiVersion, Pair, Scope, Secret, document::to_millis},
    clock::Clock,
};

/// A client application of the service.
#[derive(Clone)]
pub(super) struct ClientApplication {
    pub(super) id: i64,
    pub(super) alias: String,
    pub(super) secret: String,
}

impl ClientApplication {
    pub(super) fn is(&self, identifier: &str) -> bool {
        identifier == self.alias || identifier == self.id.to_string()
    }
}

pub(super) struct EmulatedService {
    pub(super) version: ApiVersion,
    pub(super) id: String,
    pub(super) access_token: String,
    pub(super) api_secret: String,
    pub(super) client: ClientApplication,
    /// The supported scopes; `None` for all.
    pub(super) scopes: Option<Vec<String>>,
    /// Attributes, each with the scope that has it.
    pub(super) attributes: Vec<(String, Pair)>,
    /// The life (s) of tokens that are created without one.
    pub(super) access_token_duration: i64,
    pub(super) refresh_token_duration: i64,
    pub(super) certificate_bound_tokens: bool,
    pub(super) clock: Clock,
    pub(super) state: Mutex<ServiceState>,
}

#[derive(Default)]
pub(super) struct ServiceState {
    pub(super) store: TokenRecords,
    pub(super) tickets: HashMap<String, PendingTokenRequest>,
    pub(super) proofs: ProofRegistry,
}

impl EmulatedService {
    pub(super) fn state(&self) -> MutexGuard<'_, ServiceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time (ms since the epoch).
    pub(super) fn now(&self) -> i64 {
        to_millis(self.clock.now())
    }

    /// The expiry (ms since the epoch) of a token with this life (s), or with `default` if that is absent or
    /// not positive.
    pub(super) fn expiry(&self, seconds: Option<i64>, default: i64) -> i64 {
        let seconds = seconds.filter(|seconds| *seconds > 0).unwrap_or(default);
        self.now().saturating_add(seconds.saturating_mul(1000))
    }

    pub(super) fn supports(&self, scope: &str) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|known| known == scope))
    }

    /// The scopes with their attributes.
    pub(super) fn scope_details(&self, scopes: &[String]) -> Vec<Scope> {
        let detail = |name: &String| {
            let attributes = self.attributes.iter().filter(|(scope, _)| scope == name);
            Scope {
                name: Some(name.clone()),
                attributes: attributes.map(|(_, attribute)| attribute.clone()).collect(),
                ..Scope::default()
            }
        };
        scopes.iter().map(detail).collect()
    }

    /// The smallest duration (s) in this attribute of the scopes.
    pub(super) fn scope_duration(&self, scopes: &[String], attribute: &str) -> Option<i64> {
        let details = self.scope_details(scopes);
        let attributes = details.iter().flat_map(|scope| &scope.attributes);
        let values = attributes.filter(|pair| pair.key.as_deref() == Some(attribute));
        values.filter_map(|pair| pair.value.as_ref()?.parse().ok()).filter(|s| *s > 0).min()
    }

    /// A token of the service's client with the default life.
    pub(super) fn record(&self) -> TokenRecord {
        TokenRecord {
            access: super::store::random(),
            expires_at: self.expiry(None, self.access_token_duration),
            created_at: self.now(),
            client_id: self.client.id,
            ..TokenRecord::default()
        }
    }

    /// The body of a successful token response (RFC 6749 §5.1).
    pub(super) fn body(&self, record: &TokenRecord) -> String {
        let mut body = json!({});
        for property in record.properties.iter().filter(|property| !property.hidden) {
            body[&property.key] = property.value.as_str().into();
        }
        body["access_token"] = record.access.as_str().into();
        body["token_type"] = record.token_type().into();
        body["expires_in"] = self.seconds_until(record.expires_at).into();
        body["scope"] = record.scopes.join(" ").into();
        if let Some(refresh) = &record.refresh {
            body["refresh_token"] = refresh.as_str().into();
        }
        body.to_string()
    }

    /// The time (s) until an instant (ms since the epoch); 0 if that is past.
    pub(super) fn seconds_until(&self, millis: i64) -> i64 {
        (millis - self.now()).max(0) / 1000
    }

    /// The time (s since the epoch).
    pub(super) fn now_seconds(&self) -> f64 {
        self.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// Verifies a proof for a request of this method and URI.
    pub(super) fn proof(
        &self,
        proof: &Secret,
        request: (Option<&str>, Option<&str>),
        token: Option<&Secret>,
    ) -> Result<VerifiedProof, ProofError> {
        let (Some(method), Some(uri)) = request else {
            return Err(ProofError::invalid(
                "What the DPoP proof is for, `htm` or `htu`, is not told.",
            ));
        };
        let token = token.map(Secret::expose);
        let context = ProofContext { method, uri, token, now: self.now_seconds() };
        verify(proof.expose(), &context).map_err(ProofError::invalid)
    }
}

/// An instant or a duration; `None` if it is absent or not positive.
pub(super) fn positive(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value > 0)
}
