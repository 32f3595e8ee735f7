//! The settings of rotation.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, SET_COOKIE},
};

use crate::{
    api::{Problems, Secret},
    store::LONGEST_ALIAS,
};

/// Gives tokens in use new values at intervals, so that a leaked value works for a limited time only.
///
/// The response contains the new value, which the client must use from then on. The old value stops working
/// at once, in this process and at Authlete, except for the [overlap](Self::overlap). Other processes do not know of
/// the overlap; if they have cached the old value, they accept it for at most their
/// [`max_age`](crate::layer::AuthLayerBuilder::max_age). Only successful responses (below 400, and not refused by a
/// layer of this crate) contain the new value; they have `Cache-Control: no-store`. Concurrent requests with one
/// token cause one rotation, and all of them get the same new value.
///
/// If the answer of Authlete is lost, so is the new value: the client is refused with a challenge, and an error
/// is logged. No token is rotated while Authlete cannot be asked, and at most 64 are at a time; the others are
/// rotated by a later request.
///
/// The new value is kept in memory for a minute, for requests under way with the old one. The token can be
/// [revoked](crate::AuthHandle::revoke) by an old value as long as that is remembered: of more than 100 000 values,
/// the least recently used are evicted. A [`RevocationEndpoint`](crate::endpoint::RevocationEndpoint) can revoke by
/// the old value for a minute after the rotation.
///
/// Tokens that come with a DPoP proof are not rotated.
///
/// ```
/// use std::time::Duration;
/// use http::HeaderName;
/// use tower_authlete::{AuthLayer, lifecycle::AccessTokenRotation};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let rotation = AccessTokenRotation::in_header(HeaderName::from_static("x-new-token"))
///     .every(Duration::from_secs(15 * 60))
///     .overlap(Duration::from_secs(10));
/// let auth = AuthLayer::builder(authlete).rotate(rotation).build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AccessTokenRotation {
    place: Place,
    pub(super) every: Duration,
    pub(super) overlap: Duration,
}

#[derive(Debug, Clone)]
enum Place {
    Header(HeaderName),
    Cookie(String),
}

impl AccessTokenRotation {
    fn new(place: Place) -> Self {
        Self { place, every: Duration::from_secs(15 * 60), overlap: Duration::ZERO }
    }

    /// The client finds the new value in this response header.
    #[must_use]
    pub fn in_header(name: HeaderName) -> Self {
        Self::new(Place::Header(name))
    }

    /// The client gets the new value as this cookie, `HttpOnly; Secure; SameSite=Lax; Path=/`. Use it
    /// with [`CookieToken`](crate::credentials::CookieToken).
    #[must_use]
    pub fn in_cookie(name: impl Into<String>) -> Self {
        Self::new(Place::Cookie(name.into()))
    }

    /// How long a value is used, from when this layer first saw it, for 100 000 values at most. Each process
    /// counts for itself, unless they share it by a `Fleet` (feature `redis`), whose Redis can be reached.
    /// Default: 15 minutes.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// How long the old value is still accepted by this process, for requests that are on their way: it
    /// stands for the new one. A minute at most, and less than [`every`](Self::every). Default: 0.
    #[must_use]
    pub fn overlap(self, overlap: Duration) -> Self {
        Self { overlap, ..self }
    }

    pub(crate) fn validate(&self, problems: &mut Problems) {
        if self.every.is_zero() {
            let remedy = "give how long a value of a token is used";
            problems.add("rotate.every", "0", remedy);
        }
        let is_used = !self.every.is_zero();
        if self.overlap > LONGEST_ALIAS || (is_used && self.overlap >= self.every) {
            let problem = format!("{} ms", self.overlap.as_millis());
            let remedy = "give at most a minute, and less than `every`";
            problems.add("rotate.overlap", problem, remedy);
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match &self.place {
            Place::Cookie(name) if name.is_empty() || !name.bytes().all(legal) => {
                let problem = format!("{} bytes, not a token of RFC 9110", name.len());
                problems.add("rotate.in_cookie", problem, "use letters, digits, - and _");
            }
            _ => {}
        }
    }

    /// Tells the client the new value.
    pub(super) fn tell(&self, value: &Secret, headers: &mut HeaderMap) {
        let (name, text) = match &self.place {
            Place::Header(name) => (name.clone(), value.expose().to_owned()),
            Place::Cookie(name) => {
                let value = value.expose();
                let cookie = format!("{name}={value}; HttpOnly; Secure; SameSite=Lax; Path=/");
                (SET_COOKIE, cookie)
            }
        };
        // A token of Authlete's is always a legal value; one that is not cannot be told.
        let Ok(mut text) = HeaderValue::try_from(text) else { return };
        text.set_sensitive(true);
        headers.append(name, text);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
