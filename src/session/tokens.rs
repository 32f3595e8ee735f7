//! The tokens of a session.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{
    api::{Secret, TokenResponse},
    store::digest_of,
};

/// The tokens of a session, and the process that is renewing them, if any.
///
/// A [`SessionStore`](super::SessionStore) stores them whole, by serde, which writes the tokens in
/// plaintext, and times as ms since the epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionTokens {
    /// The access token, which is presented to the layer inside.
    pub access_token: Secret,
    /// When the access token expires; `None` if it does not.
    #[serde(default, with = "millis")]
    pub expires_at: Option<SystemTime>,
    /// The refresh token; `None` if the access token cannot be renewed.
    #[serde(default)]
    pub refresh_token: Option<Secret>,
    /// The process that is renewing them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
}

/// The exclusive right of a process to use the refresh token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// The random name of the process.
    by: String,
    /// When it ends, and other processes may claim the tokens (ms since the epoch).
    until: u64,
}

impl SessionTokens {
    /// Tokens that were issued to this server.
    #[must_use]
    pub fn new(
        access_token: impl Into<Secret>,
        expires_at: Option<SystemTime>,
        refresh_token: Option<Secret>,
    ) -> Self {
        Self { access_token: access_token.into(), expires_at, refresh_token, claim: None }
    }

    /// The tokens of a successful answer of `/auth/token`; `None` if it has none.
    #[must_use]
    pub fn from_response(response: &TokenResponse) -> Option<Self> {
        let access_token = response.jwt_access_token.clone().or(response.access_token.clone())?;
        let expires_at = response.access_token_expires_at();
        Some(Self::new(access_token, expires_at, response.refresh_token.clone()))
    }

    /// The version of these tokens for compare-and-set: it differs between any two states of a session.
    /// 43 characters of the URL-safe base64 alphabet: a SHA-256 digest, which reveals no token. The expiry
    /// is not part of it, so a store may round that.
    #[must_use]
    pub fn version(&self) -> String {
        let refresh_token = self.refresh_token.as_ref().map_or("", Secret::expose);
        let parts = [self.access_token.expose(), refresh_token, self.claimant().unwrap_or("")];
        BASE64_URL_SAFE_NO_PAD.encode(digest_of(parts.map(str::as_bytes)))
    }

    /// The process that has claimed them.
    pub(super) fn claimant(&self) -> Option<&str> {
        Some(&self.claim.as_ref()?.by)
    }

    /// When the claim ends (ms since the epoch).
    pub(super) fn claimed_until(&self) -> Option<u64> {
        Some(self.claim.as_ref()?.until)
    }

    pub(super) fn claimed(&self, by: &str, until: u64) -> Self {
        Self { claim: Some(Claim { by: by.to_owned(), until }), ..self.clone() }
    }

    pub(super) fn unclaimed(&self) -> Self {
        Self { claim: None, ..self.clone() }
    }

    pub(super) fn with_access_token(&self, access_token: &Secret) -> Self {
        Self { access_token: access_token.clone(), ..self.clone() }
    }

    pub(super) fn has_access_token(&self, token: &Secret) -> bool {
        self.access_token.expose() == token.expose()
    }

    /// Whether both have the same refresh token.
    pub(super) fn shares_refresh_token(&self, other: &Self) -> bool {
        match (&self.refresh_token, &other.refresh_token) {
            (Some(one), Some(other)) => one.expose() == other.expose(),
            _ => false,
        }
    }
}

/// Times as ms since the epoch.
mod millis {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::api::document::{from_millis, to_millis};

    pub(super) fn serialize<S: Serializer>(
        at: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(to_millis).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Ok(from_millis(Option::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn tokens_survive_the_way_through_json_with_their_claim() {
        let at = UNIX_EPOCH + Duration::from_millis(1_234_567);
        let tokens = SessionTokens::new("access", Some(at), Some("refresh".into()));
        for tokens in [tokens.claimed("me", 7), tokens, SessionTokens::new("access", None, None)] {
            let json = serde_json::to_string(&tokens).unwrap();
            let back: SessionTokens = serde_json::from_str(&json).unwrap();
            assert_eq!(back.expires_at, tokens.expires_at);
            assert_eq!((back.version(), &back.claim), (tokens.version(), &tokens.claim));
        }
        let json = r#"{"access_token":"a","expires_at":null,"refresh_token":null}"#;
        assert!(serde_json::from_str::<SessionTokens>(json).is_ok());
    }

    #[test]
    fn a_version_tells_states_apart_and_is_no_token() {
        let tokens = SessionTokens::new("access", Some(UNIX_EPOCH), Some("refresh".into()));
        let later = SessionTokens { expires_at: None, ..tokens.clone() };
        assert_eq!(tokens.version(), later.version(), "a store may round times");
        let others = [
            tokens.clone(),
            tokens.with_access_token(&"access2".into()),
            SessionTokens { refresh_token: Some("refresh2".into()), ..tokens.clone() },
            SessionTokens { refresh_token: None, ..tokens.clone() },
            tokens.claimed("one", 1),
            tokens.claimed("two", 1),
        ];
        let versions: std::collections::HashSet<_> = others.iter().map(|it| it.version()).collect();
        assert_eq!(versions.len(), others.len());
        assert!(versions.iter().all(|version| version.len() == 43));
    }
}
