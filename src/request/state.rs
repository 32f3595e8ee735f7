//! A request whose token has been extracted and which is not decided yet.

use std::sync::Arc;

use http::Extensions;

use crate::{
    cache::{Key, Thumbprint},
    credentials::{AccessToken, Scheme},
    lifecycle::PendingRotation,
    proof::ClientCertificate,
    resilience::Deadline,
    verifier::{Presented, Resolved, Resolving, Sent, Verifier},
};

/// How the check of a request begins.
pub(crate) enum Begin {
    /// It needs no token and has none.
    Anonymous,
    /// The verdict on its token is there.
    Ready(RequestState, Resolved),
    /// The verdict on its token has to be waited for.
    Pending(RequestState, Resolving),
}

/// What is needed of a request once its headers have been read.
pub(crate) struct RequestState {
    pub(super) scheme: Scheme,
    /// Of the client certificate of the connection.
    pub(super) certificate: Option<Thumbprint>,
    /// In a box, which the usual hit does not have.
    pub(super) details: Option<Box<Details>>,
}

/// What is needed to ask Authlete about the token, or to extend or rotate it.
#[derive(Default)]
pub(super) struct Details {
    /// What Authlete is told, if it may have to be asked.
    pub(super) presented: Option<Arc<Presented>>,
    /// When the extension of the token has to be over that the request waits for.
    pub(super) deadline: Option<Deadline>,
    /// The request has waited for the extension of its token.
    pub(super) extended: bool,
    /// The key of the token as it was presented, if tokens are rotated.
    pub(super) value: Option<Key>,
    pub(super) rotation: Option<PendingRotation>,
    /// The call by which Authlete is asked with the request's DPoP proof, and the key of its token.
    pub(super) proof_call: Option<(Key, Sent)>,
}

impl RequestState {
    #[inline]
    pub(super) fn new(
        verifier: &Arc<Verifier>,
        token: AccessToken<'_>,
        key: Key,
        certificate: Option<&ClientCertificate>,
        extensions: &Extensions,
    ) -> Self {
        let certificate = certificate.map(ClientCertificate::thumbprint);
        let mut state = Self { scheme: token.scheme, certificate, details: None };
        // A client that proves possession needs no new values.
        if verifier.rotator.is_some() && token.scheme == Scheme::Bearer {
            let rotation = PendingRotation::due(verifier, key, token.value, extensions);
            let details = state.details();
            (details.value, details.rotation) = (Some(key), rotation);
        }
        state
    }

    /// That of a request which is refused before its token is looked at.
    pub(super) fn refused(scheme: Scheme) -> Self {
        Self { scheme, certificate: None, details: None }
    }

    pub(super) fn details(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// Notes what Authlete is asked with now.
    pub(super) fn ask(&mut self, presented: Presented, verifier: &Verifier) -> Arc<Presented> {
        let presented = Arc::new(presented);
        let details = self.details();
        details.presented = Some(presented.clone());
        details.deadline = Some(verifier.caller.deadline_of_extension());
        presented
    }
}
