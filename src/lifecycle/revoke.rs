//! Revocation of tokens, by any of their values.

use super::{Lifecycle, parts::LifecycleParts, rotate::RotationReservation};
use crate::{
    api::{Error, Secret, TokenUpdateAction, TokenUpdateRequest},
    introspect::Attempts,
    rejection::Rejection,
    resilience::Deadline,
};

/// The values by which a token is revoked: the one that was presented, then the newest. The token gets no
/// other one while this lives.
pub(crate) struct RevocableValues {
    pub(crate) values: Vec<Secret>,
    /// By what Authlete names the token, if its value was changed here.
    token_id: Option<String>,
    _reservations: Vec<RotationReservation>,
}

impl Lifecycle {
    /// The values of a token that may be good at Authlete, as far as they are known.
    pub(crate) async fn revocable_values(&self, token: &str) -> RevocableValues {
        let LifecycleParts { store, lineages, deadline, .. } = &*self.parts;
        let key = store.key(token);
        let (mut values, mut reservations) = (vec![token.into()], Vec::new());
        if let Some(rotator) = &self.rotator {
            let deadline = Deadline::after(*deadline);
            let mut value = key;
            loop {
                reservations.push(rotator.reserve(value, &deadline).await);
                let newest = lineages.newest(&value);
                if newest == value {
                    break;
                }
                value = newest;
            }
            let previous = lineages.previous(&key);
            let successor = previous.and_then(|previous| rotator.successor(&previous));
            let newest = successor.filter(|it| it.key == value && it.key != key);
            values.extend(newest.map(|newest| newest.value.clone()));
        }
        RevocableValues { values, token_id: lineages.token_id(&key), _reservations: reservations }
    }

    /// Revokes the token at Authlete, by whatever value it has now, and ends it here. Tells how many tokens
    /// Authlete revoked.
    pub(crate) async fn revoke(&self, token: &str) -> Result<u64, Error> {
        let LifecycleParts { store, lineages, clock, .. } = &*self.parts;
        let key = store.key(token);
        lineages.end(&key, clock.moment());
        let values = self.revocable_values(token).await;
        let revoked = self.revoke_values(&values).await;
        store.invalidate_issues();
        self.invalidate_all_values(key);
        // After a failure it is not known whether the token is still good: that is to be asked.
        if revoked.is_ok() {
            let gone = Rejection::invalid_token("the access token was revoked");
            lineages.alive(key).for_each(|value| store.reject(value, &gone));
        }
        revoked
    }

    async fn revoke_values(&self, token: &RevocableValues) -> Result<u64, Error> {
        let mut revoked = Ok(0);
        for value in &token.values {
            let more = self.parts.remote.revoke(value).await;
            revoked = revoked.and_then(|revoked| Ok(revoked + more?));
        }
        match (revoked, &token.token_id) {
            // The newest value is not known any more.
            (Ok(0), Some(token_id)) => self.revoke_by_id(token_id).await,
            (revoked, _) => revoked,
        }
    }

    /// Revokes a token of which no value is known: it is given one, by which it is revoked.
    async fn revoke_by_id(&self, token_id: &str) -> Result<u64, Error> {
        let remote = &self.parts.remote;
        let request = TokenUpdateRequest::new().token_id(token_id).access_token_value_updated(true);
        let response = remote.update(&request, Attempts::Policy).await?;
        match response.access_token {
            Some(value) if response.action == TokenUpdateAction::Ok => remote.revoke(&value).await,
            _ => Ok(0),
        }
    }
}
