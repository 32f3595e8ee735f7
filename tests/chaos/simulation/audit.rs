//! Compares the tokens of the emulator with the model.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use tower_authlete::api::TokenListRequest;

use super::driver::Driver;

/// More than the number of tokens.
const ALL: i64 = 1 << 20;

impl Driver {
    /// Runs while no work is in flight and no fault is injected.
    pub(crate) async fn audit(&mut self) {
        if self.failures.now() {
            return;
        }
        self.settle().await;
        let client = self.environment.elsewhere.clone();
        let request = TokenListRequest::new().end(ALL);
        let listing = async move { client.token_list(&request).await };
        let Some(Ok(list)) = self.outcome("an audit", listing).await else {
            return self.wrong("an audit", "it fails");
        };
        self.tally.audits += 1;
        let mut expiries = HashMap::new();
        for token in list.access_tokens {
            let subject = token.subject.unwrap_or_default();
            if self.sessions.are_over_for(&subject) {
                let problem = format!("{subject} still has a token");
                self.wrong("a session that has ended", &problem);
            }
            let at = token.access_token_expires_at.and_then(|at| u64::try_from(at).ok());
            let at = at.map(|at| UNIX_EPOCH + Duration::from_millis(at));
            expiries.extend(token.access_token_hash.zip(at));
        }
        self.check_lives(&expiries);
    }

    /// No token expires later than extensions allow.
    fn check_lives(&mut self, expiries: &HashMap<String, SystemTime>) {
        for number in self.tokens.in_use() {
            let token = &self.tokens[number];
            let hash = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&token.value));
            let Some(expiry) = expiries.get(&hash) else { continue };
            if let Ok(excess) = expiry.duration_since(token.dead_from)
                && !excess.is_zero()
            {
                let problem = format!("it lives {} ms longer than it may", excess.as_millis());
                self.wrong(&format!("token {number}"), &problem);
            }
        }
    }
}
