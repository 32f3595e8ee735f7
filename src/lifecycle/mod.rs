//! How long tokens live, and by which values: tokens in use get longer lives, and new values.
//!
//! ```
//! use std::time::Duration;
//! use http::HeaderName;
//! use tower_authlete::{
//!     AuthLayer, Authlete,
//!     lifecycle::{AccessTokenRotation, ExtendLifetime},
//! };
//!
//! # fn example(authlete: Authlete) -> Result<(), tower_authlete::ConfigError> {
//! let new_token = HeaderName::from_static("x-new-token");
//! let auth = AuthLayer::builder(authlete)
//!     .extend_lifetime(ExtendLifetime::new().to(Duration::from_secs(1800)))
//!     .rotate(AccessTokenRotation::in_header(new_token))
//!     .build()?;
//! # let _ = auth;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use moka::sync::Cache;

use crate::{
    introspect::Presented,
    observe::LogLimit,
    store::{Key, KeySpace, Lease, PendingCheck},
    token::TokenInfo,
};

mod extend;
mod issue;
mod lifetime;
mod lineage;
mod parts;
mod revoke;
mod rotate;
mod rotation;
mod sink;
mod update;

#[cfg(feature = "session")]
pub(crate) use self::sink::NewValueSink;
use self::{extend::Extender, rotate::Rotator};
pub(crate) use self::{
    extend::{Admits, PendingExtension},
    lineage::Lineages,
    parts::LifecycleParts,
    rotate::{PendingRotation, Rotating},
};
pub use self::{lifetime::ExtendLifetime, rotation::AccessTokenRotation};

/// Of how many refresh tokens the access token is remembered that came with it.
const MAX_PAIRS: u64 = 100_000;

/// The lifecycles of a layer's tokens.
pub(crate) struct Lifecycle {
    parts: Arc<LifecycleParts>,
    extender: Option<Arc<Extender>>,
    pub(crate) rotator: Option<Arc<Rotator>>,
    refresh_keys: KeySpace,
    /// Which access token was issued with a refresh token, by the value that it had then.
    pairs: Cache<Key, Key>,
}

impl Lifecycle {
    pub(crate) fn new(
        parts: LifecycleParts,
        refresh_keys: KeySpace,
        extension: Option<ExtendLifetime>,
        rotation: Option<AccessTokenRotation>,
    ) -> Self {
        let parts = Arc::new(parts);
        Self {
            extender: extension.map(|extension| Arc::new(Extender::new(extension, parts.clone()))),
            rotator: rotation.map(|rotation| Arc::new(Rotator::new(rotation, parts.clone()))),
            refresh_keys,
            pairs: Cache::new(MAX_PAIRS),
            parts,
        }
    }

    pub(crate) fn log(&self) -> &LogLimit {
        &self.parts.log
    }

    /// Whether a token of an admitted request is to be extended.
    #[inline]
    pub(crate) fn is_extension_due(&self, key: &Key, token: &TokenInfo) -> bool {
        self.extender.as_ref().is_some_and(|extender| extender.is_due(key, token))
    }

    /// Whether requests wait for the extension of their tokens.
    pub(crate) fn waits_for_extensions(&self) -> bool {
        self.extender.as_ref().is_some_and(|extender| extender.is_waited_for())
    }

    /// The extension of a token of an admitted request, if it is due. `check`: the introspection that it
    /// follows, if there was one; `lease`: from before what was known of the token when the request was
    /// admitted, if it waits; `admits`: whether it would be admitted by what the introspection tells.
    pub(crate) fn extension(
        &self,
        token: &TokenInfo,
        presented: Arc<Presented>,
        check: Option<Arc<PendingCheck>>,
        lease: Option<Arc<Lease>>,
        admits: impl FnOnce() -> Admits,
    ) -> Option<PendingExtension> {
        let extender = self.extender.as_ref()?;
        let due = extender.is_due(&presented.key, token);
        due.then(|| PendingExtension::new(extender, presented, check, lease, admits()))
    }

    /// Notes that a token was admitted after a check: its longest life may begin now.
    pub(crate) fn see(&self, key: &Key) {
        if self.extender.is_some() {
            self.parts.see(*key, self.parts.clock.moment());
        }
    }

    /// Nothing that was asked or cached before this returns is used after it, of the token by whatever
    /// value.
    pub(crate) fn invalidate(&self, token: &str) {
        self.invalidate_all_values(self.parts.store.key(token));
    }

    fn invalidate_all_values(&self, key: Key) {
        let LifecycleParts { store, lineages, .. } = &*self.parts;
        store.invalidate(key);
        // Only now: an update that has just ended has moved what was known to a newer value.
        lineages.alive(key).skip(1).for_each(|value| store.invalidate(value));
    }

    pub(crate) fn invalidate_all(&self) {
        self.parts.store.invalidate_all();
    }

    /// What answers tell is not kept that issue a token and are under way.
    pub(crate) fn invalidate_issues(&self) {
        self.parts.store.invalidate_issues();
    }
}
