//! Signs with the public example key of RFC 8037 §A.1.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ring::signature::Ed25519KeyPair;

/// The public key.
#[cfg(feature = "jwt")]
pub(super) const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

pub(super) fn sign(header: &str, claims: &str) -> String {
    let seed = BASE64.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap_or_default();
    let Ok(key) = Ed25519KeyPair::from_seed_unchecked(&seed) else { panic!("no key") };
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = BASE64.encode(key.sign(message.as_bytes()));
    format!("{message}.{signature}")
}
