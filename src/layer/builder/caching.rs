//! How long answers of Authlete are cached.

use std::time::Duration;

use super::AuthLayerBuilder;

impl<R> AuthLayerBuilder<R> {
    /// How long a positive answer of Authlete is cached at most; never beyond the token's expiry. It bounds how
    /// long a token that was revoked elsewhere is still accepted. Zero turns the cache for positive answers off,
    /// so that each request calls Authlete. Default: 60 s; at most a day.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.limits.max_age = max_age;
        self
    }

    /// How many positive answers are cached; one of more than 4 KiB counts for more. Default: 100 000; at least
    /// 1.
    pub fn max_entries(mut self, max_entries: u64) -> Self {
        self.limits.max_entries = max_entries;
        self
    }

    /// How long a negative answer (unknown, expired or revoked token) is cached. A token that becomes valid
    /// is refused for so long. Zero turns the cache for negative answers off. Default: 10 s; at most a day.
    pub fn negative_max_age(mut self, max_age: Duration) -> Self {
        self.limits.negative_max_age = max_age;
        self
    }

    /// How many negative answers are cached. They have a pool of their own, so that unknown tokens evict no
    /// valid ones. Default: 10 000; at least 1.
    pub fn negative_max_entries(mut self, max_entries: u64) -> Self {
        self.limits.negative_max_entries = max_entries;
        self
    }

    /// How long before its `max_age` an answer about a token in use is revalidated in the background, so
    /// that steady traffic never waits for Authlete. Each entry is revalidated at a point of its own in the
    /// second half of `ahead`, which spreads the calls. Zero turns it off. Default: a tenth of `max_age`;
    /// less than `max_age`.
    pub fn refresh_ahead(mut self, ahead: Duration) -> Self {
        self.limits.ahead = Some(ahead);
        self
    }

    /// How long after its `max_age` a positive answer may still be used while calls to Authlete fail
    /// (stale-if-error, RFC 5861 §4). It is never used beyond the token's expiry, nor after the token was
    /// forgotten or revoked here, nor after a negative answer. It is revalidated as soon as a call succeeds.
    /// [`TokenInfo::is_stale`](crate::TokenInfo::is_stale) tells requests. A token that was revoked elsewhere
    /// is accepted for so much longer. For a route, see [`AuthLayer::stale_on_error`](crate::AuthLayer::stale_on_error). Default: 0; at most a day.
    pub fn stale_on_error(mut self, up_to: Duration) -> Self {
        self.limits.stale = up_to;
        self
    }

    /// Turns the cache off: every request calls Authlete on its own. This is [`max_age`](Self::max_age) and
    /// [`negative_max_age`](Self::negative_max_age) of zero. For a route, see [`AuthLayer::no_cache`](crate::AuthLayer::no_cache).
    pub fn no_cache(self) -> Self {
        self.max_age(Duration::ZERO).negative_max_age(Duration::ZERO)
    }
}
