//! What layers, caches and responses need of a token beside its public facts.

use std::{any::Any, num::NonZeroU64, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::Extensions;

use super::{
    Facts, TokenInfo,
    interner::Interner,
    sets::{Held, Properties, Scopes},
};
use crate::store::{Key, Thumbprint};

impl TokenInfo {
    /// With the layer that resolved it, and its key there.
    pub(crate) fn guarded<L: Any + Send + Sync>(self, layer: &Arc<L>, key: &Key) -> Self {
        self.with(|facts| {
            facts.layer = Some(layer.clone());
            facts.key = Some(*key);
        })
    }

    /// What the layer that resolved it has left for what is inside.
    pub(crate) fn layer(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.0.layer.as_deref()
    }

    /// Its key in the layer that resolved it.
    pub(crate) fn key(&self) -> Option<Key> {
        self.0.key
    }

    /// As a stale entry, which should have been revalidated at `since` (ms since the epoch).
    pub(crate) fn stale(self, since: u64) -> Self {
        self.with(|facts| facts.stale_since = NonZeroU64::new(since))
    }

    /// Whether it has been stale for `bound` or longer at `now` (ms since the epoch).
    pub(crate) fn is_stale_beyond(&self, bound: Duration, now: u64) -> bool {
        let age = |since: NonZeroU64| Duration::from_millis(now.saturating_sub(since.get()));
        self.0.stale_since.is_some_and(|since| age(since) >= bound)
    }

    /// Whether an introspection would add no facts.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.complete
    }

    /// Whether it has expired at this time (ms since the epoch).
    #[inline]
    pub(crate) fn is_past(&self, now: u64) -> bool {
        self.0.expires_at.is_some_and(|at| u64::try_from(at.get()).unwrap_or_default() <= now)
    }

    /// Whether it can be used over a connection with this client certificate, or without one (RFC 8705 §3).
    #[inline]
    pub(crate) fn is_bound_to(&self, certificate: Option<&Thumbprint>) -> bool {
        let Some(bound) = &self.0.rest.certificate_thumbprint else { return true };
        certificate.is_some_and(|shown| BASE64_URL_SAFE_NO_PAD.encode(shown) == *bound)
    }

    /// Whether responses to it have to be signed (FAPI 2.0 Message Signing).
    pub(crate) fn needs_signed_response(&self) -> bool {
        self.0.rest.response_signing_required
    }

    /// Replaces the extensions of an outer layer by this token: with its [`Scopes`] and [`Properties`], or
    /// `alone`.
    #[inline]
    pub(crate) fn insert_into(self, extensions: &mut Extensions, alone: bool) {
        if alone {
            if !extensions.is_empty() {
                extensions.remove::<Scopes>();
                extensions.remove::<Properties>();
            }
        } else {
            extensions.insert(Scopes(Held::Of(self.0.clone())));
            extensions.insert(Properties(Held::Of(self.0.clone())));
        }
        extensions.insert(self);
    }

    /// A copy with a reference count of its own, so that threads do not contend for one.
    pub(crate) fn deep_clone(&self) -> Self {
        Self(Arc::new(Facts::clone(&self.0)))
    }

    /// With the parts that other tokens share taken from the interner.
    pub(crate) fn interned(self, interner: &Interner) -> Self {
        self.with(|facts| {
            interner.rest(&mut facts.rest);
            interner.scopes(&mut facts.scopes);
            interner.properties(&mut facts.properties);
        })
    }

    /// The approximate size of the facts in memory (bytes).
    pub(crate) fn size(&self) -> usize {
        // The length of their JSON: exact for strings, which are what can be large.
        let rest = serde_json::to_vec(&*self.0.rest).map_or(usize::MAX, |json| json.len());
        let properties = self.properties().iter();
        let properties: usize = properties.map(|it| it.key.len() + it.value.len()).sum();
        let scopes: usize = self.scopes().iter().map(str::len).sum();
        rest.saturating_add(properties + scopes + self.subject().map_or(0, str::len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IntrospectionResponse;

    #[test]
    fn a_copy_is_counted_apart_and_tells_the_same() {
        let known = IntrospectionResponse { subject: Some("alice".into()), ..Default::default() };
        let token = TokenInfo::from(&known);
        let copy = token.deep_clone();
        assert_eq!((Arc::strong_count(&token.0), Arc::strong_count(&copy.0)), (1, 1));
        assert_eq!(copy.subject(), token.subject());
    }
}
