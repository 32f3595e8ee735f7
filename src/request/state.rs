//! A request whose token has been extracted and which is not decided yet.

use std::sync::Arc;

use http::Extensions;

use crate::{
    credentials::{AccessToken, Scheme},
    introspect::{Presented, Sent},
    lifecycle::{Lifecycle, PendingRotation},
    rejection::Rejection,
    resilience::Deadline,
    store::{Key, Thumbprint},
    verify::{Resolved, Resolving, Verifier},
};

/// How the check of a request begins.
pub(crate) enum Begin {
    /// It needs no token and has none.
    Anonymous,
    /// The verdict on its token is there.
    Ready(Resolved),
    /// The verdict on its token has to be waited for.
    Pending(Resolving),
}

impl Begin {
    /// That of a request which is refused before its token is looked up.
    pub(super) fn refused(rejection: Rejection) -> Self {
        Self::Ready(Resolved::known(Err(rejection)))
    }
}

/// What is needed of a request once its headers have been read.
#[derive(Default)]
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
    /// Looks whether it is time for another value of the token, if tokens are rotated. A client that
    /// proves possession needs no new values.
    #[inline]
    pub(super) fn begin_rotation(
        &mut self,
        lifecycle: &Lifecycle,
        token: AccessToken<'_>,
        key: Key,
        extensions: &Extensions,
    ) {
        if let Some(rotator) = &lifecycle.rotator
            && token.scheme == Scheme::Bearer
        {
            let rotation = PendingRotation::due(rotator, key, token.text(), extensions);
            let details = self.details();
            (details.value, details.rotation) = (Some(key), rotation);
        }
    }

    pub(super) fn details(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// The rotation of the token, if it is due, of a request that is admitted.
    pub(super) fn take_rotation(&mut self, lifecycle: &Lifecycle) -> Option<PendingRotation> {
        let details = self.details.as_deref_mut()?;
        lifecycle.rotator.as_ref()?.see(&details.value?);
        details.rotation.take()
    }

    /// What Authlete is told to extend the token, unless the request has waited for that already.
    #[inline]
    pub(super) fn presented_unless_extended(&self) -> Option<&Arc<Presented>> {
        self.details.as_deref().filter(|details| !details.extended)?.presented.as_ref()
    }

    /// Notes what Authlete is asked with now.
    pub(super) fn ask(&mut self, presented: Presented, verifier: &Verifier) -> Arc<Presented> {
        let presented = Arc::new(presented);
        let details = self.details();
        details.presented = Some(presented.clone());
        details.deadline = Some(verifier.extension_deadline());
        presented
    }
}
