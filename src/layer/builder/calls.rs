//! Calls to Authlete.

use super::AuthLayerBuilder;
use crate::{
    clock::Clock,
    introspect::Check,
    lifecycle::{Refresh, Rotation},
    resilience::Resilience,
};

impl<R> AuthLayerBuilder<R> {
    /// The API that checks tokens. Default: [`Check::Introspection`].
    pub fn check(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// How calls of Authlete are made that may fail. It replaces all that was set of it before. Default:
    /// [`Resilience::new`].
    pub fn resilience(self, resilience: Resilience) -> Self {
        Self { resilience, ..self }
    }

    /// The clock by which expiry and ages are judged. Ages of cached answers are bounded by a monotonic clock
    /// too. Default: the system's.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Extends the life of tokens in use. Default: off.
    pub fn refresh(self, refresh: Refresh) -> Self {
        Self { refresh: Some(refresh), ..self }
    }

    /// Gives tokens in use new values at intervals. Default: off.
    pub fn rotate(self, rotation: Rotation) -> Self {
        Self { rotation: Some(rotation), ..self }
    }
}
