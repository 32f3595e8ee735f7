//! Settings of a layer, in groups.

mod build;
mod caching;
mod calls;
mod proofs;
mod requests;

use std::{fmt, time::Duration};

use super::auth::AuthLayer;
#[cfg(feature = "dpop")]
use crate::proof::Dpop;
use crate::{
    api::Authlete,
    clock::Clock,
    introspect::Check,
    lifecycle::{Refresh, Rotation},
    proof::ProofSettings,
    rejection::{EmptyBody, challenge::Challenges},
    request::Options,
    resilience::ResiliencePolicy,
    store::Limits,
};

impl AuthLayer {
    /// A layer with default settings.
    #[must_use]
    pub fn new(authlete: Authlete) -> Self {
        AuthLayerBuilder::new(authlete).finish()
    }

    /// Settings of a layer.
    pub fn builder(authlete: Authlete) -> AuthLayerBuilder {
        AuthLayerBuilder::new(authlete)
    }
}

/// Settings of an [`AuthLayer`], made by [`AuthLayer::builder`].
#[must_use = "settings do nothing until `build` is called"]
pub struct AuthLayerBuilder<R = EmptyBody> {
    authlete: Authlete,
    check: Check,
    clock: Clock,
    limits: Limits,
    refresh: Option<Refresh>,
    rotation: Option<Rotation>,
    resilience: ResiliencePolicy,
    #[cfg(feature = "dpop")]
    dpop: Option<Dpop>,
    options: Options,
    renderer: R,
}

impl AuthLayerBuilder {
    fn new(authlete: Authlete) -> Self {
        let limits = Limits {
            max_age: Duration::from_secs(60),
            max_entries: 100_000,
            negative_max_age: Duration::from_secs(10),
            negative_max_entries: 10_000,
            stale: Duration::ZERO,
            ahead: None,
        };
        let options = Options {
            sources: Vec::new(),
            max_token_length: 16 * 1024,
            optional: false,
            strip: false,
            token_info_alone: false,
            precheck: None,
            require: None,
            challenges: Challenges::default(),
            proofs: ProofSettings::default(),
        };
        let (check, clock) = (Check::default(), Clock::system());
        Self {
            authlete,
            check,
            clock,
            limits,
            refresh: None,
            rotation: None,
            resilience: ResiliencePolicy::default(),
            #[cfg(feature = "dpop")]
            dpop: None,
            options,
            renderer: EmptyBody,
        }
    }
}

impl<R> fmt::Debug for AuthLayerBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayerBuilder")
            .field("check", &self.check)
            .field("limits", &self.limits)
            .field("optional", &self.options.optional)
            .field("require", &self.options.require)
            .field("realm", &self.options.challenges.realm)
            .finish_non_exhaustive()
    }
}
