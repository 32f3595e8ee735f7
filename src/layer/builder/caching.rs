//! How long answers of Authlete are cached.

use std::time::Duration;

use super::AuthLayerBuilder;
use crate::cache::CachePolicy;
#[cfg(feature = "redis")]
use crate::fleet::Fleet;

impl<R> AuthLayerBuilder<R> {
    /// How answers of Authlete are cached. It replaces all that was set of it before, but
    /// [`max_age`](Self::max_age) is kept if `cache` sets none. Default: [`CachePolicy::new`].
    pub fn cache(mut self, cache: CachePolicy) -> Self {
        self.cache = cache.or_max_age_of(self.cache);
        self
    }

    /// Shares what is known of tokens with other processes. Default: with none.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn fleet(self, fleet: Fleet) -> Self {
        Self { fleet: Some(fleet), ..self }
    }

    /// How long a positive answer of Authlete is cached at most: [`CachePolicy::max_age`]. Default: 60 s; at most
    /// a day.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.cache = self.cache.max_age(max_age);
        self
    }
}
