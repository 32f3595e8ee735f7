//! The Authlete service that the emulator plays: its settings, its tokens, and what it answers.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::json;

use super::{
    dpop::{Proof, Purpose, verify},
    proofs::{Proofs, Unproven},
    store::{Record, Store},
    ticket::Ticket,
};
use crate::{
    api::{ApiVersion, Pair, Scope, Secret, document::to_millis},
    clock::Clock,
};

/// A client application of the service.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) id: i64,
    pub(super) alias: String,
    pub(super) secret: String,
}

impl Client {
    pub(super) fn is(&self, identifier: &str) -> bool {
        identifier == self.alias || identifier == self.id.to_string()
    }
}

pub(super) struct Service {
    pub(super) version: ApiVersion,
    pub(super) id: String,
    pub(super) access_token: String,
    pub(super) api_secret: String,
    pub(super) client: Client,
    /// `None`: every scope is supported.
    pub(super) scopes: Option<Vec<String>>,
    /// Attributes of scopes.
    pub(super) attributes: Vec<(String, Pair)>,
    /// Life of tokens (s) that are made without one.
    pub(super) access_token_duration: i64,
    pub(super) refresh_token_duration: i64,
    pub(super) certificate_bound_tokens: bool,
    pub(super) clock: Clock,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) tickets: HashMap<String, Ticket>,
    pub(super) proofs: Proofs,
}

impl Service {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// ms since the epoch.
    pub(super) fn now(&self) -> i64 {
        to_millis(self.clock.now())
    }

    /// When something that lives this long (s) from now on expires; the default if that is nothing.
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

    /// The smallest duration (s) that an attribute of these scopes gives.
    pub(super) fn scope_duration(&self, scopes: &[String], attribute: &str) -> Option<i64> {
        let details = self.scope_details(scopes);
        let attributes = details.iter().flat_map(|scope| &scope.attributes);
        let values = attributes.filter(|pair| pair.key.as_deref() == Some(attribute));
        values.filter_map(|pair| pair.value.as_ref()?.parse().ok()).filter(|s| *s > 0).min()
    }

    /// A token of the service's client that lives for as long as the service says.
    pub(super) fn record(&self) -> Record {
        Record {
            access: super::store::random(),
            expires_at: self.expiry(None, self.access_token_duration),
            created_at: self.now(),
            client_id: self.client.id,
            ..Record::default()
        }
    }

    /// The body of a successful token response (RFC 6749 §5.1).
    pub(super) fn body(&self, record: &Record) -> String {
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

    pub(super) fn seconds_until(&self, millis: i64) -> i64 {
        (millis - self.now()).max(0) / 1000
    }

    /// s since the epoch.
    pub(super) fn now_seconds(&self) -> f64 {
        self.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// Reads a proof that is made for a request of this method and URI.
    pub(super) fn proof(
        &self,
        proof: &Secret,
        request: (Option<&str>, Option<&str>),
        token: Option<&Secret>,
    ) -> Result<Proof, Unproven> {
        let (Some(method), Some(uri)) = request else {
            return Err(Unproven::invalid(
                "What the DPoP proof is for, `htm` or `htu`, is not told.",
            ));
        };
        let token = token.map(Secret::expose);
        let purpose = Purpose { method, uri, token, now: self.now_seconds() };
        verify(proof.expose(), &purpose).map_err(Unproven::invalid)
    }
}

/// An instant or a duration that is one.
pub(super) fn positive(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value > 0)
}
