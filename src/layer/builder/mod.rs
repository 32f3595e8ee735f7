//! Settings of a layer, in groups.

mod build;
mod caching;
mod calls;
mod proofs;
mod requests;

use std::fmt;

use super::auth::AuthLayer;
#[cfg(feature = "redis")]
use crate::fleet::Fleet;
#[cfg(feature = "dpop")]
use crate::proof::Dpop;
use crate::{
    api::Authlete,
    cache::CachePolicy,
    clock::Clock,
    introspect::CheckApi,
    lifecycle::{AccessTokenRotation, ExtendLifetime},
    proof::ProofSettings,
    rejection::{EmptyBody, challenge::Challenges},
    request::Options,
    resilience::Resilience,
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
    check: CheckApi,
    clock: Clock,
    cache: CachePolicy,
    extension: Option<ExtendLifetime>,
    rotation: Option<AccessTokenRotation>,
    resilience: Resilience,
    #[cfg(feature = "dpop")]
    dpop: Option<Dpop>,
    #[cfg(feature = "redis")]
    fleet: Option<Fleet>,
    /// Of the layer as it is built; its variants have their own.
    optional: bool,
    options: Options,
    renderer: R,
}

impl AuthLayerBuilder {
    fn new(authlete: Authlete) -> Self {
        let options = Options {
            sources: Vec::new(),
            max_token_length: 16 * 1024,
            strip: false,
            token_info_alone: false,
            precheck: None,
            require: None,
            challenges: Challenges::default(),
            proofs: ProofSettings::default(),
        };
        let (check, clock) = (CheckApi::default(), Clock::system());
        Self {
            authlete,
            check,
            clock,
            cache: CachePolicy::new(),
            extension: None,
            rotation: None,
            resilience: Resilience::new(),
            #[cfg(feature = "dpop")]
            dpop: None,
            #[cfg(feature = "redis")]
            fleet: None,
            optional: false,
            options,
            renderer: EmptyBody,
        }
    }
}

impl<R> fmt::Debug for AuthLayerBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayerBuilder")
            .field("check", &self.check)
            .field("cache", &self.cache)
            .field("resilience", &self.resilience)
            .field("optional", &self.optional)
            .field("require", &self.options.require)
            .field("realm", &self.options.challenges.realm)
            .finish_non_exhaustive()
    }
}
