//! What is cached of Authlete's answers, and for how long.
//!
//! ```
//! use std::time::Duration;
//! use tower_authlete::{AuthLayer, Authlete, cache::CachePolicy};
//!
//! # fn example(authlete: Authlete) -> Result<(), tower_authlete::ConfigError> {
//! let cache = CachePolicy::new()
//!     .max_age(Duration::from_secs(30))
//!     .stale_if_error(Duration::from_secs(600));
//! let auth = AuthLayer::builder(authlete).cache(cache).build()?;
//! # let _ = auth;
//! # Ok(())
//! # }
//! ```
//!
//! Facts are cached, never decisions: requirements and proofs are checked on every request. Keys are digests,
//! so that the cache holds no token. Failures are not cached.

use std::time::Duration;

use crate::{api::Problems, clock::DAY};

/// How long answers of Authlete are cached, and how many.
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::cache::CachePolicy;
///
/// let cache = CachePolicy::new()
///     .max_age(Duration::from_secs(60))
///     .negative_max_age(Duration::from_secs(5))
///     .stale_if_error(Duration::from_secs(600))
///     .revalidate_before(Duration::from_secs(6));
/// ```
///
/// | setting | unit | default | bounds | zero |
/// |---|---|---|---|---|
/// | [`max_age`](Self::max_age) | duration | 60 s | at most a day | positive answers are not cached |
/// | [`max_entries`](Self::max_entries) | entries of 4 KiB | 100 000 | at least 1 | an error |
/// | [`negative_max_age`](Self::negative_max_age) | duration | 10 s | at most a day | negative answers are not cached |
/// | [`negative_max_entries`](Self::negative_max_entries) | entries | 10 000 | at least 1 | an error |
/// | [`stale_if_error`](Self::stale_if_error) | duration | 0 | at most a day; only with a `max_age` | nothing stale is used |
/// | [`revalidate_before`](Self::revalidate_before) | duration | a tenth of `max_age` | less than `max_age` | nothing is revalidated in the background |
///
/// A positive answer says that a token is valid; a negative one that it is unknown, expired or revoked.
///
/// # Errors
/// A value out of bounds is an error when the layer is [built](crate::layer::AuthLayerBuilder::build), which
/// names the setting, such as `cache.max_age`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "settings do nothing until they are given to a layer"]
pub struct CachePolicy {
    /// `None`: not set.
    max_age: Option<Duration>,
    pub(crate) max_entries: u64,
    pub(crate) negative_max_age: Duration,
    pub(crate) negative_max_entries: u64,
    pub(crate) stale_if_error: Duration,
    revalidate_before: Option<Duration>,
}

impl CachePolicy {
    /// The defaults of the table above.
    pub const fn new() -> Self {
        Self {
            max_age: None,
            max_entries: 100_000,
            negative_max_age: Duration::from_secs(10),
            negative_max_entries: 10_000,
            stale_if_error: Duration::ZERO,
            revalidate_before: None,
        }
    }

    /// Nothing is cached: every request calls Authlete on its own. This is [`max_age`](Self::max_age) and
    /// [`negative_max_age`](Self::negative_max_age) of zero. For a route, see
    /// [`AuthLayer::bypass_cache`](crate::AuthLayer::bypass_cache).
    pub const fn disabled() -> Self {
        Self { max_age: Some(Duration::ZERO), negative_max_age: Duration::ZERO, ..Self::new() }
    }

    /// How long a positive answer is cached at most; never beyond the token's expiry. It bounds how long a
    /// token that was revoked elsewhere is still accepted. Default: 60 s; at most a day. Zero: each request
    /// calls Authlete.
    pub const fn max_age(self, max_age: Duration) -> Self {
        Self { max_age: Some(max_age), ..self }
    }

    /// How many positive answers are cached; one of more than 4 KiB counts for more. Default: 100 000; at
    /// least 1.
    pub const fn max_entries(self, max_entries: u64) -> Self {
        Self { max_entries, ..self }
    }

    /// How long a negative answer is cached. A token that becomes valid is refused for so long. Default: 10 s;
    /// at most a day.
    pub const fn negative_max_age(self, negative_max_age: Duration) -> Self {
        Self { negative_max_age, ..self }
    }

    /// How many negative answers are cached. They have a pool of their own, so that unknown tokens evict no
    /// valid ones. Default: 10 000; at least 1.
    pub const fn negative_max_entries(self, negative_max_entries: u64) -> Self {
        Self { negative_max_entries, ..self }
    }

    /// How long after its `max_age` a positive answer may still be used while calls to Authlete fail
    /// (RFC 5861 §4). It is never used beyond the token's expiry, nor after the token was forgotten or revoked
    /// here, nor after a negative answer. It is revalidated as soon as a call succeeds.
    /// [`TokenInfo::is_stale`](crate::TokenInfo::is_stale) tells requests. A token that was revoked elsewhere
    /// is accepted for so much longer. For a route, see
    /// [`AuthLayer::stale_if_error`](crate::AuthLayer::stale_if_error). Default: 0; at most a day.
    pub const fn stale_if_error(self, stale_if_error: Duration) -> Self {
        Self { stale_if_error, ..self }
    }

    /// How long before its `max_age` an answer about a token in use is revalidated in the background, so
    /// that steady traffic never waits for Authlete. Each entry is revalidated at a point of its own between
    /// this time and half of it before its `max_age`, which spreads the calls. Default: a tenth of `max_age`; less than `max_age`.
    pub const fn revalidate_before(self, revalidate_before: Duration) -> Self {
        Self { revalidate_before: Some(revalidate_before), ..self }
    }

    /// The same with the `max_age` of another one, unless this one sets it.
    pub(crate) fn or_max_age_of(self, other: Self) -> Self {
        Self { max_age: self.max_age.or(other.max_age), ..self }
    }

    /// The longest age of a positive entry.
    pub(crate) fn positive_age(&self) -> Duration {
        self.max_age.unwrap_or(Duration::from_secs(60))
    }

    /// How long before its longest age an entry in use is revalidated.
    pub(crate) fn ahead(&self) -> Duration {
        self.revalidate_before.unwrap_or(self.positive_age() / 10)
    }

    /// Whether nothing is cached.
    pub(crate) fn caches_nothing(&self) -> bool {
        self.positive_age().is_zero() && self.negative_max_age.is_zero()
    }

    pub(crate) fn validate(&self, problems: &mut Problems) {
        let (max_age, stale) = (self.positive_age(), self.stale_if_error);
        for (setting, age) in [
            ("cache.max_age", max_age),
            ("cache.negative_max_age", self.negative_max_age),
            ("cache.stale_if_error", stale),
        ] {
            if age > DAY {
                let remedy = "give at most a day: it is how long a revoked token can live on";
                problems.add(setting, format!("{} s", age.as_secs()), remedy);
            }
        }
        if !stale.is_zero() && max_age.is_zero() {
            let problem = format!("{} ms without a cache", stale.as_millis());
            let remedy = "give a max_age, since it is for answers that are kept";
            problems.add("cache.stale_if_error", problem, remedy);
        }
        if let Some(ahead) = self.revalidate_before.filter(|it| !it.is_zero() && *it >= max_age) {
            let problem = format!("{} ms", ahead.as_millis());
            problems.add("cache.revalidate_before", problem, "give less than max_age");
        }
        for (setting, entries) in [
            ("cache.max_entries", self.max_entries),
            ("cache.negative_max_entries", self.negative_max_entries),
        ] {
            if entries == 0 {
                let remedy = "give at least 1, or turn the cache off by CachePolicy::disabled()";
                problems.add(setting, "0", remedy);
            }
        }
    }
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self::new()
    }
}
