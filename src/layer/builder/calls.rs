//! Calls to Authlete.

use super::AuthLayerBuilder;
use crate::{
    clock::Clock,
    introspect::CheckApi,
    lifecycle::{AccessTokenRotation, ExtendLifetime},
    resilience::Resilience,
};

impl<R> AuthLayerBuilder<R> {
    /// The API that checks tokens. Default: [`CheckApi::Introspection`].
    pub fn check(self, check: CheckApi) -> Self {
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
    pub fn extend_lifetime(self, extension: ExtendLifetime) -> Self {
        Self { extension: Some(extension), ..self }
    }

    /// Gives tokens in use new values at intervals. Default: off.
    pub fn rotate(self, rotation: AccessTokenRotation) -> Self {
        Self { rotation: Some(rotation), ..self }
    }
}
