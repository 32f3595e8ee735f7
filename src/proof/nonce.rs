//! Nonces of our own, which need no memory: a keyed digest of the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use ring::hmac;

/// Makes and knows nonces. Servers that share the key know each other's.
pub(crate) struct Nonces {
    key: hmac::Key,
    pub(crate) life: Duration,
}

impl Nonces {
    pub(crate) fn new(key: &[u8], life: Duration) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), life }
    }

    /// The nonce of this time.
    pub(crate) fn current(&self, now: SystemTime) -> HeaderValue {
        let nonce = BASE64_URL_SAFE_NO_PAD.encode(self.digest(self.period(now)));
        HeaderValue::try_from(nonce).unwrap_or(HeaderValue::from_static(""))
    }

    /// Whether it is the nonce of this period or of the one before, or of the next one of another
    /// server's clock.
    pub(crate) fn knows(&self, nonce: &str, now: SystemTime) -> bool {
        let Ok(nonce) = BASE64_URL_SAFE_NO_PAD.decode(nonce) else { return false };
        let period = self.period(now);
        [period, period.wrapping_sub(1), period.wrapping_add(1)]
            .into_iter()
            .any(|period| hmac::verify(&self.key, &period.to_be_bytes(), &nonce).is_ok())
    }

    fn period(&self, now: SystemTime) -> u64 {
        let elapsed = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        u64::try_from(elapsed / self.life.as_millis().max(1)).unwrap_or(u64::MAX)
    }

    fn digest(&self, period: u64) -> hmac::Tag {
        hmac::sign(&self.key, &period.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_lives_for_one_to_two_periods() {
        let nonces = Nonces::new(b"key", Duration::from_secs(60));
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let nonce = nonces.current(at(600));
        let nonce = nonce.to_str().unwrap();
        assert!(nonces.knows(nonce, at(600)) && nonces.knows(nonce, at(719)));
        assert!(!nonces.knows(nonce, at(720)));
        assert!(!Nonces::new(b"other", Duration::from_secs(60)).knows(nonce, at(600)));
        assert!(!nonces.knows("", at(600)) && !nonces.knows("AAAA", at(600)));
    }
}
