//! Which access token was issued with a refresh token, by whatever value it is known now.

use std::sync::{Arc, Mutex, PoisonError};

use moka::sync::Cache;

use crate::cache::Key;

/// How many pairs are remembered.
const MAX_PAIRS: u64 = 100_000;

pub(crate) struct Pairs {
    by_refresh: Cache<Key, Access>,
    by_access: Cache<Key, Access>,
}

/// The newest value of the access token.
type Access = Arc<Mutex<Key>>;

impl Pairs {
    pub(crate) fn new() -> Self {
        Self { by_refresh: Cache::new(MAX_PAIRS), by_access: Cache::new(MAX_PAIRS) }
    }

    pub(crate) fn remember(&self, refresh: Key, access: Key) {
        let cell = Arc::new(Mutex::new(access));
        self.by_refresh.insert(refresh, cell.clone());
        self.by_access.insert(access, cell);
    }

    /// An access token has got a new value.
    pub(crate) fn renew(&self, old: &Key, new: Key) {
        if let Some(cell) = self.by_access.remove(old) {
            *cell.lock().unwrap_or_else(PoisonError::into_inner) = new;
            self.by_access.insert(new, cell);
        }
    }

    /// The access token of a refresh token. Whether the refresh token is no more may not be known.
    pub(crate) fn access(&self, refresh: &Key) -> Option<Key> {
        let cell = self.by_refresh.get(refresh)?;
        Some(*cell.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::KeySpace;

    #[test]
    fn an_access_token_is_found_by_its_last_value() {
        let (pairs, keys) = (Pairs::new(), KeySpace::new(&[0; 32], "a", "b"));
        let [refresh, one, two, three] = ["refresh", "1", "2", "3"].map(|it| keys.key(it));
        pairs.remember(refresh, one);
        pairs.renew(&one, two);
        pairs.renew(&one, one);
        pairs.renew(&two, three);
        assert!(pairs.access(&refresh) == Some(three));
        assert!(pairs.access(&three).is_none());
    }
}
