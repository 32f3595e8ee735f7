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
///
/// | setting | default | |
/// |---|---|---|
/// | [`max_age`](Self::max_age) | 60 s | how long a positive answer is cached at most |
/// | [`cache`](Self::cache) | [`CachePolicy::new`] | how answers are cached |
/// | `fleet` (feature `redis`) | none | processes that share what they know of tokens |
/// | [`resilience`](Self::resilience) | [`Resilience::new`] | how calls are made that may fail |
/// | [`check`](Self::check) | [`CheckApi::Introspection`] | the API that checks tokens |
/// | [`precheck`](Self::precheck) | any token | what the service's tokens look like |
/// | [`require`](Self::require) | any valid token | what the token of every request must satisfy |
/// | [`optional`](Self::optional) | off | lets requests without credentials pass |
/// | [`token_source`](Self::token_source) | `Authorization` alone | further places to read the token from |
/// | [`max_token_length`](Self::max_token_length) | 16 KiB | longer tokens are refused without a call |
/// | [`dpop`](Self::dpop) | off | accepts tokens with DPoP proofs |
/// | [`client_certificates`](Self::client_certificates) | nowhere | where client certificates are found |
/// | [`message_signatures`](Self::message_signatures) | off | verifies and makes message signatures |
/// | [`extend_lifetime`](Self::extend_lifetime) | off | extends the life of tokens in use |
/// | [`rotate`](Self::rotate) | off | gives tokens in use new values |
/// | [`strip_credentials`](Self::strip_credentials) | off | removes the token before the request is forwarded |
/// | [`token_info_alone`](Self::token_info_alone) | off | inserts `TokenInfo` alone into requests |
/// | [`protected_resource`](Self::protected_resource) | none | the metadata that challenges point to |
/// | [`realm`](Self::realm) | none | the realm of challenges |
/// | [`renderer`](Self::renderer) | [`EmptyBody`] | the bodies of refusals |
/// | [`clock`](Self::clock) | the system's | for tests |
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
