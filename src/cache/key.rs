//! Under which key a presentation of a token is known.

use sha2::{Digest, Sha256};

/// A digest that names a presentation of a token to a service. The token cannot be read from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// The keys of one service, asked in one way.
///
/// Two services, two credentials or two ways of asking never share a key, even if they share a
/// store.
#[derive(Clone)]
pub(crate) struct KeySpace(Sha256);

impl KeySpace {
    /// `identity` names the service and our credentials there, `use_` what is asked of it.
    pub(crate) fn new(identity: &[u8; 32], use_: &str) -> Self {
        let mut digest = Sha256::new();
        part(&mut digest, identity);
        part(&mut digest, use_.as_bytes());
        Self(digest)
    }

    /// The key of a token that is presented under `scheme` and bound to nothing.
    pub(crate) fn key(&self, scheme: &str, token: &str) -> Key {
        self.of([scheme, token])
    }

    /// The key of something that these parts name.
    pub(crate) fn of<'p>(&self, parts: impl IntoIterator<Item = &'p str>) -> Key {
        let mut digest = self.0.clone();
        parts.into_iter().for_each(|text| part(&mut digest, text.as_bytes()));
        Key(digest.finalize().into())
    }
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
    fn keys_differ_by_service_check_scheme_and_token() {
        let (one, two) = ([1; 32], [2; 32]);
        let keys = [
            KeySpace::new(&one, "introspection").key("bearer", "token"),
            KeySpace::new(&two, "introspection").key("bearer", "token"),
            KeySpace::new(&one, "update").key("bearer", "token"),
            KeySpace::new(&one, "introspection").key("dpop", "token"),
            KeySpace::new(&one, "introspection").key("bearer", "token2"),
            KeySpace::new(&one, "introspection").key("beare", "rtoken"),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
        assert!(keys[0] == KeySpace::new(&one, "introspection").key("bearer", "token"));
    }
}
