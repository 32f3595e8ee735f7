//! Invalidation around calls that may end tokens at Authlete.

use crate::api::{Error, ErrorKind};

/// Invalidates when it is dropped, unless it is cancelled: after a call to Authlete that succeeded, that
/// failed, or whose future was dropped before its response.
pub(super) struct InvalidateOnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> InvalidateOnDrop<F> {
    pub(super) fn new(invalidate: F) -> Self {
        Self(Some(invalidate))
    }

    /// Nothing is invalidated: the call had no effect at Authlete.
    pub(super) fn cancel(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for InvalidateOnDrop<F> {
    fn drop(&mut self) {
        if let Some(invalidate) = self.0.take() {
            invalidate();
        }
    }
}

/// Whether a call that failed may have taken effect: it may have been sent, and Authlete did not refuse
/// it.
pub(super) fn may_have_taken_effect(failure: &Error) -> bool {
    match &failure.kind {
        ErrorKind::Request(_) => false,
        ErrorKind::Connection(_) => !failure.is_unsent(),
        ErrorKind::Refused(refusal) => {
            !refusal.status.is_client_error() && !refusal.status.is_redirection()
        }
        ErrorKind::Deadline(_) | ErrorKind::Undecodable { .. } | ErrorKind::TooLarge(_) => true,
    }
}
