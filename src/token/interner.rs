//! One allocation for facts that many tokens share.

use std::sync::{Arc, Weak};

use moka::sync::Cache;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::sets::{Held, Properties, Scopes};
use crate::api::{IntrospectionResponse, Property};

/// The bound of a pool's own memory, of which there are three (bytes).
const POOL_BYTES: u64 = 8 << 20;

/// The approximate memory of an entry in a pool (bytes).
const ENTRY_BYTES: usize = 256;

/// Replaces equal facts of tokens by one allocation.
///
/// It holds weak references only, so that a value is dropped with the last token that has it. Values that
/// are rarely used are evicted, and not shared with further tokens then.
pub(crate) struct Interner {
    rest: Pool<IntrospectionResponse>,
    scopes: Pool<[Box<str>]>,
    properties: Pool<[Property]>,
}

impl Interner {
    pub(crate) fn new() -> Self {
        Self { rest: Pool::new(), scopes: Pool::new(), properties: Pool::new() }
    }

    pub(super) fn rest(&self, rest: &mut Arc<IntrospectionResponse>) {
        self.rest.share(rest);
    }

    pub(super) fn scopes(&self, scopes: &mut Scopes) {
        if let Held::Own(own) = &mut scopes.0 {
            self.scopes.share(own);
        }
    }

    pub(super) fn properties(&self, properties: &mut Properties) {
        if let Held::Own(own) = &mut properties.0 {
            self.properties.share(own);
        }
    }

    /// Removes all values, so that further tokens share none of them.
    pub(crate) fn clear(&self) {
        self.rest.clear();
        self.scopes.clear();
        self.properties.clear();
    }
}

/// Values of one type, by the digests of their JSON.
struct Pool<T: ?Sized>(Cache<[u8; 32], Weak<T>>);

impl<T: Serialize + ?Sized + Send + Sync + 'static> Pool<T> {
    fn new() -> Self {
        Self(Cache::builder().max_capacity(POOL_BYTES).weigher(|_, value| weight(value)).build())
    }

    /// Replaces a value by an equal one of another token, if there is one.
    fn share(&self, value: &mut Arc<T>) {
        // Equal JSON means equal facts, since they were deserialized from JSON.
        let Ok(json) = serde_json::to_vec(&**value) else { return };
        let digest: [u8; 32] = Sha256::digest(json).into();
        match self.0.get(&digest).and_then(|shared| shared.upgrade()) {
            Some(shared) => *value = shared,
            None => self.0.insert(digest, Arc::downgrade(value)),
        }
    }

    fn clear(&self) {
        self.0.invalidate_all();
        // Frees the memory now rather than with later calls.
        self.0.run_pending_tasks();
    }
}

/// The memory of an entry (bytes): a weak reference keeps the allocation of a value that was dropped.
fn weight<T: ?Sized>(value: &Weak<T>) -> u32 {
    let shell = value.upgrade().map_or(0, |value| size_of_val(&*value));
    u32::try_from(ENTRY_BYTES.saturating_add(shell)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenInfo;

    /// The facts of a token with a property of this length.
    fn facts(number: usize, length: usize) -> TokenInfo {
        TokenInfo::from(&IntrospectionResponse {
            client_id: Some(1 + number as i64),
            scopes: vec![format!("scope-{number}")],
            properties: vec![Property::new(format!("key-{number}"), "v".repeat(length))],
            ..Default::default()
        })
    }

    fn own<T>(held: &Held<T>) -> Arc<[T]> {
        match held {
            Held::Own(own) => own.clone(),
            Held::Of(_) => panic!("of a token"),
        }
    }

    fn held(interner: &Interner) -> u64 {
        let Interner { rest, scopes, properties } = interner;
        rest.0.run_pending_tasks();
        scopes.0.run_pending_tasks();
        properties.0.run_pending_tasks();
        rest.0.weighted_size() + scopes.0.weighted_size() + properties.0.weighted_size()
    }

    #[test]
    fn equal_facts_are_in_one_place_as_long_as_a_token_has_them() {
        let interner = Interner::new();
        let one = facts(1, 10).interned(&interner);
        let other = facts(1, 10).interned(&interner);
        assert!(Arc::ptr_eq(&one.0.rest, &other.0.rest));
        assert!(Arc::ptr_eq(&own(&one.0.scopes.0), &own(&other.0.scopes.0)));
        assert!(Arc::ptr_eq(&own(&one.0.properties.0), &own(&other.0.properties.0)));
        let rest = Arc::downgrade(&one.0.rest);
        let scopes = Arc::downgrade(&own(&one.0.scopes.0));
        let properties = Arc::downgrade(&own(&one.0.properties.0));
        drop(one);
        assert!(properties.upgrade().is_some());
        drop(other);
        let gone = (rest.upgrade(), scopes.upgrade().is_none(), properties.upgrade());
        assert!(matches!(gone, (None, true, None)));
        // What comes after is in one place again.
        let (one, other) = (facts(1, 10).interned(&interner), facts(1, 10).interned(&interner));
        assert!(Arc::ptr_eq(&one.0.rest, &other.0.rest));
    }

    #[test]
    fn what_many_tokens_brought_takes_bounded_room_and_none_when_all_is_forgotten() {
        let interner = Interner::new();
        let tokens = (0..20_000).map(|number| facts(number, 10).interned(&interner));
        let tokens: Vec<_> = tokens.collect();
        let held_bytes = held(&interner);
        assert!((1..=3 * POOL_BYTES).contains(&held_bytes), "{held_bytes} bytes");
        interner.clear();
        assert_eq!(held(&interner), 0);
        assert_eq!(Arc::weak_count(&tokens[19_999].0.rest), 0);
    }
}
