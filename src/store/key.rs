//! Under which key a token is known, and how it was presented.

use sha2::{Digest, Sha256};

/// Into how many buckets keys fall, of which each can be invalidated as a whole.
pub(crate) const BUCKETS: usize = 16;

/// A digest that names a token of a service. The token cannot be read from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// All of it, in four words.
    pub(crate) fn words(&self) -> [u64; 4] {
        let (words, _) = self.0.as_chunks();
        std::array::from_fn(|it| u64::from_be_bytes(words[it]))
    }

    /// Between half of a time and all of it, so that what begins at once for many keys does not end at once.
    #[inline]
    pub(super) fn part_of(&self, millis: u64) -> u64 {
        // At most a day.
        millis * (256 + self.prefix() % 256) / 512
    }

    /// Below [`BUCKETS`].
    #[inline]
    pub(crate) fn bucket(&self) -> usize {
        // It fits, since the remainder is small.
        (self.prefix() % BUCKETS as u64) as usize
    }

    #[cfg(feature = "redis")]
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    #[cfg(feature = "redis")]
    pub(crate) fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A part of it, as evenly spread as all of it.
    pub(crate) fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// A SHA-256 thumbprint: of a DPoP key (RFC 7638) or of a certificate (RFC 8705 `x5t#S256`).
pub(crate) type Thumbprint = [u8; 32];

/// To what the presenter of a token has shown to be bound: to nothing for a bearer.
///
/// All that is known of a token is kept under one [`Key`], so that it is invalidated at once; but what
/// Authlete said about one binding is never used for another.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Binding {
    /// The key of a DPoP proof.
    pub(crate) key: Option<Thumbprint>,
    /// The client certificate of the connection.
    pub(crate) certificate: Option<Thumbprint>,
}

impl Binding {
    pub(crate) const BEARER: Self = Self { key: None, certificate: None };
}

/// The keys of one kind of thing at one service. Two services never share a key; a service whose credentials
/// change keeps its keys.
#[derive(Clone)]
pub(crate) struct KeySpace(Sha256);

impl KeySpace {
    /// `service` is the digest that names the service, `kind` what has a key.
    pub(crate) fn new(service: &[u8; 32], kind: &str) -> Self {
        let name = digest_of([service, kind.as_bytes()]);
        // Fills a block of the digest, so that it is done with here and the key of a usual token takes
        // one block more.
        let mut digest = Sha256::new();
        digest.update(name);
        digest.update([0; 32]);
        Self(digest)
    }

    /// The key of what this text names.
    pub(crate) fn key(&self, text: impl AsRef<[u8]>) -> Key {
        Key(self.0.clone().chain_update(text).finalize().into())
    }

    /// The key of what these parts name together.
    pub(crate) fn key_of<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Key {
        let mut digest = self.0.clone();
        parts.into_iter().for_each(|text| part(&mut digest, text.as_bytes()));
        Key(digest.finalize().into())
    }
}

/// A digest of what these parts name together.
pub(crate) fn digest_of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> [u8; 32] {
    let mut digest = Sha256::new();
    parts.into_iter().for_each(|bytes| part(&mut digest, bytes));
    digest.finalize().into()
}

/// Lengths keep parts apart: `("ab", "c")` and `("a", "bc")` are not the same.
fn part(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_be_bytes());
    digest.update(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_service_kind_and_token() {
        let (one, two) = ([1; 32], [2; 32]);
        let keys = [
            KeySpace::new(&one, "access").key("token"),
            KeySpace::new(&two, "access").key("token"),
            KeySpace::new(&one, "refresh").key("token"),
            KeySpace::new(&one, "access").key("token2"),
            KeySpace::new(&one, "access").key_of(["to", "ken"]),
            KeySpace::new(&one, "access").key_of(["tok", "en"]),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
        assert!(keys[0] == KeySpace::new(&one, "access").key("token"));
    }
}
