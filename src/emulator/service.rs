//! The Authlete service that the emulator plays: its settings, its tokens, and what it answers.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::StatusCode;

use super::{
    grants::Ticket,
    proofs::Proofs,
    store::{Record, Store},
};
use crate::{
    api::{ApiVersion, Pair, Scope, document::to_millis},
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

/// The call itself is wrong: an HTTP status and Authlete's `resultCode` and `resultMessage`.
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// `resultCode` and `resultMessage`.
pub(super) fn result(code: &str, message: &str) -> (Option<String>, Option<String>) {
    (Some(code.to_owned()), Some(format!("[{code}] {message}")))
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
}
