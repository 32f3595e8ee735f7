//! How long tokens live, and by which values: extension, rotation, issue, update, revocation.

use std::sync::Arc;

use moka::sync::Cache;

use crate::{
    introspect::Presented,
    observe::LogLimit,
    store::{Key, KeySpace, PendingCheck},
    token::TokenInfo,
};

mod extend;
mod issue;
mod lineage;
mod parts;
mod refresh;
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
pub use self::{refresh::Refresh, rotation::Rotation};

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
        refresh: Option<Refresh>,
        rotation: Option<Rotation>,
    ) -> Self {
        let parts = Arc::new(parts);
        Self {
            extender: refresh.map(|refresh| Arc::new(Extender::new(refresh, parts.clone()))),
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

    /// The extension of a token of an admitted request, if it is due. `check`: the introspection that it
    /// follows, if there was one; `admits`: whether the request would be admitted by what that tells.
    pub(crate) fn extension(
        &self,
        token: &TokenInfo,
        presented: Arc<Presented>,
        check: Option<Arc<PendingCheck>>,
        admits: impl FnOnce() -> Admits,
    ) -> Option<PendingExtension> {
        let extender = self.extender.as_ref()?;
        let due = extender.is_due(&presented.key, token);
        due.then(|| PendingExtension::new(extender, presented, check, admits()))
    }

    /// Notes that a token was admitted after a check: its longest life may begin now.
    pub(crate) fn see(&self, key: &Key) {
        if self.extender.is_some() {
            self.parts.lineages.first_seen(key, self.parts.clock.moment());
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
