//! A request whose token has been extracted and which is not decided yet.

use std::sync::Arc;

use http::Extensions;

use super::settings::Settings;
use crate::{
    credentials::{AccessToken, Scheme},
    introspect::{Presented, Sent},
    lifecycle::{Lifecycle, PendingRotation},
    rejection::Rejection,
    resilience::Deadline,
    store::{Key, Lease, Thumbprint},
    verdict::Verdict,
    verify::{Resolved, Resolving},
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
    /// From before anything was known of the token, if the extension of tokens is waited for.
    lease: Option<Arc<Lease>>,
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

    /// Notes what Authlete is asked with, now or once the request is admitted. If the extension of tokens is
    /// waited for, it tells what is known since the lease was taken by which the request goes then.
    pub(super) fn ask<R>(
        &mut self,
        presented: Presented,
        settings: &Settings<R>,
    ) -> (Arc<Presented>, Option<Option<Verdict>>) {
        let Settings { verifier, lifecycle, .. } = settings;
        let presented = Arc::new(presented);
        let leased = lifecycle.waits_for_extensions().then(|| verifier.take_lease(&presented));
        let (lease, known) = leased.unzip();
        let details = self.details();
        details.presented = Some(presented.clone());
        details.deadline = Some(verifier.extension_deadline());
        details.lease = lease;
        (presented, known)
    }

    pub(super) fn lease(&self) -> Option<Arc<Lease>> {
        self.details.as_ref()?.lease.clone()
    }
}
