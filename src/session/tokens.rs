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
    /// How often they were claimed. Each claim has a number of its own, also of one process, so that no call
    /// of an older one, which arrives late, changes anything.
    #[serde(default)]
    claims: u64,
}

/// The exclusive right of a process to use the refresh token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    /// The random name of the process.
    by: String,
    /// When it ends, and other processes may claim the tokens (ms since the epoch).
    until: u64,
    /// How long it lasts (ms).
    #[serde(default)]
    life: u64,
    /// How long ago it began (ms), if the store has told that by its own clock, which all processes share.
    #[serde(skip)]
    age: Option<i64>,
}

impl SessionTokens {
    /// Tokens that were issued to this server.
    #[must_use]
    pub fn new(
        access_token: impl Into<Secret>,
        expires_at: Option<SystemTime>,
        refresh_token: Option<Secret>,
    ) -> Self {
        Self {
            access_token: access_token.into(),
            expires_at,
            refresh_token,
            claim: None,
            claims: 0,
        }
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
        let claims = self.claims.to_string();
        self.digest([self.claimant().unwrap_or(""), &claims])
    }

    /// As a version, whoever claims them.
    pub(super) fn unclaimed_version(&self) -> String {
        self.digest([])
    }

    fn digest<const N: usize>(&self, claim: [&str; N]) -> String {
        let refresh_token = self.refresh_token.as_ref().map_or("", Secret::expose);
        let parts = [self.access_token.expose(), refresh_token].into_iter().chain(claim);
        BASE64_URL_SAFE_NO_PAD.encode(digest_of(parts.map(str::as_bytes)))
    }

    /// The process that has claimed them.
    pub(super) fn claimant(&self) -> Option<&str> {
        Some(&self.claim.as_ref()?.by)
    }

    /// Whether these are claimed as those are, by the same process at the same time.
    pub(super) fn shares_claim(&self, other: &Self) -> bool {
        self.claimant() == other.claimant() && self.claims == other.claims
    }

    /// How long the claim lasts from now on (ms), by the store's clock, or if that has told nothing, by that of
    /// this process.
    pub(super) fn claim_left(&self, now: u64) -> u64 {
        let Some(claim) = &self.claim else { return 0 };
        match claim.age {
            Some(age) => claim.life.saturating_add_signed(age.saturating_neg()),
            None => claim.until.saturating_sub(now),
        }
    }

    /// Claimed from now on (ms since the epoch), for so long (ms).
    pub(super) fn claimed(&self, by: &str, now: u64, life: u64) -> Self {
        let until = now.saturating_add(life);
        let claim = Claim { by: by.to_owned(), until, life, age: None };
        Self { claim: Some(claim), claims: self.claims.saturating_add(1), ..self.clone() }
    }

    /// The number of the claim that was made last.
    #[cfg(feature = "redis")]
    pub(crate) fn claims(&self) -> u64 {
        self.claims
    }

    /// The claim was made so long ago (ms), by the clock of the store.
    #[cfg(feature = "redis")]
    pub(crate) fn with_claim_age(mut self, age: i64) -> Self {
        self.claim.iter_mut().for_each(|claim| claim.age = Some(age));
        self
    }

    /// The successors of claimed tokens, whose claim ends with them.
    pub(super) fn renewed(&self, new: &Self) -> Self {
        Self { claim: None, claims: self.claims, ..new.clone() }
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
        let claimed = tokens.claimed("me", 3, 4);
        for tokens in [claimed, tokens, SessionTokens::new("access", None, None)] {
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
            tokens.claimed("one", 1, 1),
            tokens.claimed("two", 1, 1),
            tokens.claimed("one", 1, 1).unclaimed(),
            tokens.claimed("one", 1, 1).unclaimed().claimed("one", 1, 1),
        ];
        let versions: std::collections::HashSet<_> = others.iter().map(|it| it.version()).collect();
        assert_eq!(versions.len(), others.len());
        assert!(versions.iter().all(|version| version.len() == 43));
        let claimed = tokens.claimed("one", 1, 1);
        assert_eq!(tokens.unclaimed_version(), claimed.unclaimed_version());
    }

    #[test]
    fn a_claim_ends_by_the_clock_of_the_store_or_that_of_the_process() {
        let tokens = SessionTokens::new("access", None, None);
        assert_eq!(tokens.claim_left(0), 0);
        let claimed = tokens.claimed("me", 100, 50);
        assert_eq!([100, 149, 150, 200].map(|now| claimed.claim_left(now)), [50, 1, 0, 0]);
        #[cfg(feature = "redis")]
        {
            let left = |age| claimed.clone().with_claim_age(age).claim_left(1_000_000);
            assert_eq!([-10, 0, 49, 50, i64::MAX].map(left), [60, 50, 1, 0, 0]);
        }
    }
}
