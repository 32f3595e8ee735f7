//! The names of keys in Redis.

use std::hash::{BuildHasher, RandomState};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::store::Key;

/// A name for a generation or a process, which no other one has.
pub(super) fn unique() -> [u8; 16] {
    // The standard library's source of randomness.
    let half = || RandomState::new().hash_one(0).to_be_bytes();
    let mut name = [0; 16];
    name[..8].copy_from_slice(&half());
    name[8..].copy_from_slice(&half());
    name
}

/// The version of the protocol. Processes of another one share nothing with these.
const VERSION: u8 = 1;

/// The key of a proof that was used. Those of a fleet are spread over all slots of a cluster.
#[cfg(feature = "dpop")]
pub(super) fn proof(digest: &[u8; 32]) -> String {
    format!("authlete:{VERSION}:proof:{}", BASE64_URL_SAFE_NO_PAD.encode(digest))
}

/// The key of a session.
#[cfg(feature = "session")]
pub(super) fn session(name: &str) -> String {
    format!("authlete:{VERSION}:session:{name}")
}

/// The keys of one service. All keys of a [bucket](Key::bucket) are in one slot of a cluster.
#[derive(Clone)]
pub(super) struct Names {
    service: String,
}

/// The keys of one token.
pub(super) struct TokenNames<'n> {
    names: &'n Names,
    pub(super) bucket: usize,
    token: String,
}

impl Names {
    /// Of a service that this digest names.
    pub(super) fn new(service: &[u8; 32]) -> Self {
        Self { service: BASE64_URL_SAFE_NO_PAD.encode(&service[..16]) }
    }

    /// The key of this kind that a bucket has once.
    fn of(&self, bucket: usize, kind: &str) -> String {
        format!("{{authlete:{VERSION}:{}:{bucket}}}:{kind}", self.service)
    }

    /// Names what was said before an invalidation of everything, or before the log was lost.
    pub(super) fn generation(&self, bucket: usize) -> String {
        self.of(bucket, "generation")
    }

    /// Names the history of the server in which the generation began.
    pub(super) fn history(&self, bucket: usize) -> String {
        self.of(bucket, "history")
    }

    /// How many records were written.
    pub(super) fn counter(&self, bucket: usize) -> String {
        self.of(bucket, "counter")
    }

    /// The last records.
    pub(super) fn log(&self, bucket: usize) -> String {
        self.of(bucket, "log")
    }

    pub(super) fn token(&self, key: &Key) -> TokenNames<'_> {
        TokenNames {
            names: self,
            bucket: key.bucket(),
            token: BASE64_URL_SAFE_NO_PAD.encode(key.bytes()),
        }
    }
}

impl TokenNames<'_> {
    fn of(&self, kind: &str) -> String {
        self.names.of(self.bucket, &format!("{kind}:{}", self.token))
    }

    /// The sealed facts.
    pub(super) fn facts(&self) -> String {
        self.of("facts")
    }

    /// The ID of the record that invalidated it last.
    pub(super) fn fence(&self) -> String {
        self.of("fence")
    }

    /// Since when it is known.
    pub(super) fn sight(&self, of: &str) -> String {
        self.of(&format!("seen:{of}"))
    }

    /// Who does something about it for all.
    pub(super) fn claim(&self, purpose: &str) -> String {
        self.of(&format!("claim:{purpose}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::KeySpace;

    #[test]
    fn keys_of_a_bucket_share_a_hash_tag() {
        let (names, space) = (Names::new(&[7; 32]), KeySpace::new(&[7; 32], "access"));
        for token in ["a", "b", "c"] {
            let key = space.key(token);
            let token = names.token(&key);
            let tag = |name: &str| name.split('}').next().map(str::to_owned);
            let bucket = tag(&names.log(token.bucket));
            assert_eq!(bucket.as_deref().map(|tag| tag.starts_with("{authlete:1:")), Some(true));
            for name in [token.facts(), token.fence(), token.claim("x"), token.sight("x")] {
                assert_eq!(tag(&name), bucket);
            }
        }
    }
}
