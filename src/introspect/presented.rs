//! What a check is made of.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use crate::{
    api::{IntrospectionRequest, Secret},
    store::{Binding, Key, PendingCheck},
};

/// Set to the check by which Authlete is asked with the proof of a request.
pub(crate) type Sent = Arc<OnceLock<Arc<PendingCheck>>>;

/// A token as it was presented, with all that Authlete has to be told of it.
#[derive(Clone)]
pub(crate) struct Presented {
    pub(crate) key: Key,
    pub(crate) binding: Binding,
    token: Secret,
    /// All of it, if that is more than the token.
    request: Option<Arc<IntrospectionRequest>>,
    /// Where it is told that Authlete is asked with its proof.
    pub(crate) sent: Option<Sent>,
}

impl Presented {
    pub(crate) fn new(key: Key, binding: Binding, token: &str) -> Self {
        Self { key, binding, token: token.into(), request: None, sent: None }
    }

    /// With what Authlete is told beside the token.
    pub(crate) fn telling(mut self, request: IntrospectionRequest) -> Self {
        self.request = Some(Arc::new(request));
        self
    }

    /// The same by another value of the token.
    pub(crate) fn with_value(&self, key: Key, token: &Secret) -> Self {
        let of = |request: &Arc<IntrospectionRequest>| Arc::new((**request).clone().token(token));
        let request = self.request.as_ref().map(of);
        Self { key, token: token.clone(), request, ..self.clone() }
    }

    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    /// All that Authlete is told.
    pub(crate) fn request(&self) -> Cow<'_, IntrospectionRequest> {
        match &self.request {
            Some(request) => Cow::Borrowed(request),
            None => Cow::Owned(IntrospectionRequest::new().token(&self.token)),
        }
    }

    pub(crate) fn has_proof(&self) -> bool {
        self.request.as_ref().is_some_and(|request| request.dpop.is_some())
    }

    /// Notes by which check Authlete is asked with it.
    pub(crate) fn note_sent(&self, check: &Arc<PendingCheck>) {
        let _first = self.sent.as_ref().map(|sent| sent.set(check.clone()));
    }

    /// Whether Authlete has been asked with its proof.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.get().is_some())
    }
}
