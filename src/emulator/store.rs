//! The tokens of the emulator.

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rand::Rng;
use sha2::{Digest, Sha256};

use crate::api::{AuthzDetails, GrantType, Property};

/// An access token, with its refresh token if it has one.
#[derive(Clone, Default)]
pub(super) struct TokenRecord {
    pub(super) id: u64,
    pub(super) access: String,
    /// When the access token expires (ms since the epoch); 0 if it does not.
    pub(super) expires_at: i64,
    pub(super) refresh: Option<String>,
    /// When the refresh token expires (ms since the epoch).
    pub(super) refresh_expires_at: i64,
    /// The scopes that a refresh may request.
    pub(super) refresh_scopes: Vec<String>,
    /// The resources that a refresh may request.
    pub(super) refresh_resources: Vec<String>,
    pub(super) created_at: i64,
    pub(super) last_refreshed_at: i64,
    pub(super) client_id: i64,
    pub(super) alias_used: bool,
    pub(super) subject: Option<String>,
    pub(super) grant_type: Option<GrantType>,
    pub(super) scopes: Vec<String>,
    pub(super) properties: Vec<Property>,
    pub(super) resources: Vec<String>,
    pub(super) authorization_details: Option<AuthzDetails>,
    pub(super) certificate_thumbprint: Option<String>,
    pub(super) dpop_key_thumbprint: Option<String>,
    pub(super) for_external_attachment: bool,
    pub(super) acr: Option<String>,
    /// When the user was authenticated (s since the epoch).
    pub(super) auth_time: Option<i64>,
    pub(super) session_id: Option<String>,
    pub(super) response_signing_required: bool,
}

impl TokenRecord {
    pub(super) fn token_type(&self) -> &'static str {
        if self.dpop_key_thumbprint.is_some() { "DPoP" } else { "Bearer" }
    }

    pub(super) fn is_expired(&self, now: i64) -> bool {
        self.expires_at != 0 && self.expires_at <= now
    }

    pub(super) fn is_refreshable(&self, now: i64) -> bool {
        self.refresh.is_some() && self.refresh_expires_at > now
    }
}

/// All tokens, in order of creation, with an index of the hashes of their values.
#[derive(Default)]
pub(super) struct TokenRecords {
    records: BTreeMap<u64, TokenRecord>,
    access: HashMap<String, u64>,
    refresh: HashMap<String, u64>,
    last: u64,
}

impl TokenRecords {
    /// Inserts a new token, which gets an identifier; `None` if one of its values is taken.
    pub(super) fn insert(&mut self, mut record: TokenRecord) -> Option<TokenRecord> {
        let taken = self.access.contains_key(&hash(&record.access))
            || record.refresh.as_ref().is_some_and(|value| self.refresh.contains_key(&hash(value)));
        if taken {
            return None;
        }
        self.last += 1;
        record.id = self.last;
        self.put(record.clone());
        Some(record)
    }

    fn put(&mut self, record: TokenRecord) {
        self.access.insert(hash(&record.access), record.id);
        self.refresh.extend(record.refresh.iter().map(|value| (hash(value), record.id)));
        self.records.insert(record.id, record);
    }

    /// Replaces the token of this identifier. Its values may differ.
    pub(super) fn replace(&mut self, record: TokenRecord) {
        self.remove(record.id);
        self.put(record);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<TokenRecord> {
        let record = self.records.remove(&id)?;
        self.access.remove(&hash(&record.access));
        if let Some(value) = &record.refresh {
            self.refresh.remove(&hash(value));
        }
        Some(record)
    }

    /// By the access token's value.
    pub(super) fn by_access(&self, value: &str) -> Option<&TokenRecord> {
        self.by_access_hash(&hash(value))
    }

    pub(super) fn by_access_hash(&self, hash: &str) -> Option<&TokenRecord> {
        self.records.get(self.access.get(hash)?)
    }

    /// By the refresh token's value.
    pub(super) fn by_refresh(&self, value: &str) -> Option<&TokenRecord> {
        self.by_refresh_hash(&hash(value))
    }

    pub(super) fn by_refresh_hash(&self, hash: &str) -> Option<&TokenRecord> {
        self.records.get(self.refresh.get(hash)?)
    }

    pub(super) fn by_id(&self, id: u64) -> Option<&TokenRecord> {
        self.records.get(&id)
    }

    /// The tokens that fit, oldest first.
    pub(super) fn find(&self, fits: impl Fn(&TokenRecord) -> bool) -> Vec<&TokenRecord> {
        self.records.values().filter(|record| fits(record)).collect()
    }
}

/// The hash by which Authlete names a token: base64url of SHA-256.
pub(super) fn hash(value: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(value))
}

/// A random value of 256 bits.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
