//! Facts as they lie in Redis: readable only with the token that they are about and the fleet's secret.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};

use crate::api::Secret;

/// The version of what is sealed; others are not read.
const VERSION: u8 = 1;

/// What is longer is neither sealed nor read.
pub(super) const MAX_SEALED: usize = 64 * 1024;

/// Seals by AES-256-GCM with a random nonce. The key is derived by HKDF-SHA256 (RFC 5869) from the token, salted
/// with the secret.
pub(super) struct Sealer {
    /// The newest first, which seals.
    salts: Vec<Salt>,
}

impl Sealer {
    pub(super) fn new<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Self {
        let salt = |secret: &Secret| Salt::new(HKDF_SHA256, secret.expose().as_bytes());
        Self { salts: secrets.into_iter().map(salt).collect() }
    }

    /// Seals bytes for who has this material, such as a token. `context` is what they belong to.
    pub(super) fn seal(
        &self,
        material: &[u8],
        context: &[u8],
        plain: Vec<u8>,
    ) -> Result<Vec<u8>, Unspecified> {
        let salt = self.salts.first().ok_or(Unspecified)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce)?;
        let mut bytes = plain;
        let sealing = Nonce::assume_unique_for_key(nonce);
        key(salt, material)?.seal_in_place_append_tag(sealing, Aad::from(context), &mut bytes)?;
        let sealed = [&[VERSION], &nonce[..], &bytes].concat();
        if sealed.len() < MAX_SEALED { Ok(sealed) } else { Err(Unspecified) }
    }

    /// Opens what was sealed for the same material and context, by any of the secrets.
    pub(super) fn open(
        &self,
        material: &[u8],
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, Unspecified> {
        let (version, sealed) = sealed.split_first().ok_or(Unspecified)?;
        if *version != VERSION || sealed.len() >= MAX_SEALED {
            return Err(Unspecified);
        }
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(Unspecified)?;
        self.salts
            .iter()
            .find_map(|salt| {
                let (nonce, mut bytes) =
                    (Nonce::try_assume_unique_for_key(nonce).ok()?, sealed.to_vec());
                let opened = key(salt, material).ok()?;
                let plain = opened.open_in_place(nonce, Aad::from(context), &mut bytes).ok()?;
                let length = plain.len();
                bytes.truncate(length);
                Some(bytes)
            })
            .ok_or(Unspecified)
    }
}

fn key(salt: &Salt, material: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let material = salt.extract(material);
    let expanded = material.expand(&[b"tower-authlete shared"], &AES_256_GCM)?;
    Ok(LessSafeKey::new(UnboundKey::from(expanded)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(secrets: &[&str]) -> Sealer {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| (*secret).into()).collect();
        Sealer::new(&secrets)
    }

    #[test]
    fn what_is_sealed_opens_with_token_secret_and_context_only() {
        let one = sealer(&["one"]);
        let sealed = one.seal(b"token", b"context", b"facts".to_vec()).unwrap();
        assert_eq!(one.open(b"token", b"context", &sealed).unwrap(), b"facts");
        assert!(!sealed.windows(5).any(|part| part == b"facts"));
        assert!(one.open(b"other", b"context", &sealed).is_err());
        assert!(one.open(b"token", b"other", &sealed).is_err());
        assert!(sealer(&["two"]).open(b"token", b"context", &sealed).is_err());
        for index in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[index] ^= 1;
            assert!(one.open(b"token", b"context", &forged).is_err(), "{index}");
            assert!(one.open(b"token", b"context", &sealed[..index]).is_err(), "{index}");
        }
    }

    #[test]
    fn a_secret_is_replaced_node_by_node() {
        let (old, new) = (sealer(&["old"]), sealer(&["new"]));
        let (both, back) = (sealer(&["new", "old"]), sealer(&["old", "new"]));
        let sealed = |by: &Sealer| by.seal(b"token", b"", b"facts".to_vec()).unwrap();
        for reader in [&both, &back] {
            assert!(reader.open(b"token", b"", &sealed(&old)).is_ok());
            assert!(reader.open(b"token", b"", &sealed(&new)).is_ok());
        }
        assert!(new.open(b"token", b"", &sealed(&both)).is_ok());
        assert!(old.open(b"token", b"", &sealed(&both)).is_err());
    }

    #[test]
    fn what_is_too_long_is_not_sealed() {
        let one = sealer(&["one"]);
        assert!(one.seal(b"token", b"", vec![0; MAX_SEALED]).is_err());
        assert!(one.seal(b"token", b"", vec![0; MAX_SEALED - 100]).is_ok());
        assert_ne!(
            one.seal(b"token", b"", vec![0; 10]).unwrap(),
            one.seal(b"token", b"", vec![0; 10]).unwrap()
        );
    }
}
