//! What is learnt of tokens by changing, issuing, ending and forgetting them.

use std::sync::{Arc, atomic::Ordering};

use super::{Asked, Verifier};
use crate::{
    api::{
        Error, Secret, TokenRevokeRequest, TokenUpdateAction, TokenUpdateRequest,
        TokenUpdateResponse,
    },
    cache::{Binding, Flight, Key, Purpose, Standing, Table, Told},
    clock::Moment,
    lifecycle::Reservation,
    rejection::Rejection,
    resilience::RetryMode,
    token::TokenInfo,
};

impl Verifier {
    /// Nothing that was asked or cached before this returns is used after it, of the token by whatever
    /// value.
    pub(crate) fn forget(&self, token: &str) {
        self.forget_line(self.key(token));
    }

    fn forget_line(&self, key: Key) {
        self.forget_with_overlap(key);
        // Only now: a change that has just landed has moved what was known to a newer value.
        for value in self.lineages.alive(key).skip(1) {
            self.forget_with_overlap(value);
        }
    }

    /// Forgets what is known of this value of a token, which stands for no other any more.
    fn forget_with_overlap(&self, value: Key) {
        if let Some(rotator) = &self.rotator {
            rotator.end_overlap(&value);
        }
        self.forget_value(value);
    }

    /// Forgets what is known of this value of a token only.
    pub(crate) fn forget_value(&self, key: Key) {
        self.replace(key, None);
    }

    /// Forgets what is known of the token, and keeps something else instead.
    fn replace(&self, key: Key, rejection: Option<&Rejection>) {
        let mut flights = self.flights.lock();
        flights.forget(&key);
        let Some(cache) = &self.cache else { return };
        cache.remove(&key);
        if let Some(rejection) = rejection {
            cache.put(key, Binding::BEARER, &Err(rejection.clone()), self.clock.moment());
        }
    }

    /// An issue that is about to be asked for.
    pub(crate) fn issue(&self) -> Issue {
        Issue { departed: self.clock.moment(), endings: self.endings.load(Ordering::Acquire) }
    }

    /// What issues under way tell is not to be kept: they may be of what is ended now.
    pub(crate) fn overtake_issues(&self) {
        // Somebody who keeps what an issue told is done, or sees it.
        let _flights = self.flights.lock();
        self.endings.fetch_add(1, Ordering::AcqRel);
    }

    /// The longest life of a token that was issued here begins with its issue.
    pub(crate) fn see(&self, token: &str, issue: &Issue) {
        if self.extender.is_some() {
            self.lineages.first_seen(&self.key(token), issue.departed);
        }
    }

    /// Keeps what was said of a token when it was issued, which must be plain Bearer beyond doubt.
    /// What is known by asking is better, and stays.
    pub(crate) fn remember(&self, token: &str, issued: TokenInfo, issue: Issue) {
        let key = self.key(token);
        let mut flights = self.flights.lock();
        let Some(cache) = &self.cache else { return };
        let known = cache.get(&key, Binding::BEARER, self.clock.moment()).and_then(Result::ok);
        if known.is_some_and(|known| known.is_complete()) {
            return;
        }
        // It may have been asked about before it existed.
        flights.forget(&key);
        if self.endings.load(Ordering::Acquire) == issue.endings {
            cache.put(key, Binding::BEARER, &Ok(issued.guarded(&self.guard, &key)), issue.departed);
        } else {
            cache.remove(&key);
        }
    }

    /// Keeps which access token came with a refresh token.
    pub(crate) fn remember_pair(&self, refresh: &str, access: &str) {
        self.pairs.insert(self.refresh_keys.key(refresh), self.key(access));
    }

    /// Forgets the access token that came with a refresh token, which is used up or revoked.
    pub(crate) fn forget_pair(&self, refresh: &str) {
        if let Some(access) = self.pairs.get(&self.refresh_keys.key(refresh)) {
            self.forget_line(access);
        }
    }

    pub(crate) fn forget_all(&self) {
        if let Some(rotator) = &self.rotator {
            rotator.end_all_overlaps();
        }
        self.overtake_issues();
        let mut flights = self.flights.lock();
        flights.forget_all();
        if let Some(cache) = &self.cache {
            cache.remove_all();
        }
    }

    /// The values of a token that may be good at Authlete, as far as they are known: this one, and the
    /// newest. The token gets no other one while this lives.
    pub(crate) async fn line(&self, token: &str) -> Line {
        let key = self.key(token);
        let mut line =
            Line { values: vec![token.into()], token_id: None, reservations: Vec::new() };
        if let Some(rotator) = &self.rotator {
            let deadline = self.caller.deadline();
            let mut value = key;
            loop {
                line.reservations.push(rotator.reserve(value, &deadline).await);
                let newest = self.lineages.newest(&value);
                if newest == value {
                    break;
                }
                value = newest;
            }
            let previous = self.lineages.previous(&key);
            let successor = previous.and_then(|it| rotator.successor(&it, self.clock.moment()));
            let newest = successor.filter(|it| it.key == value && it.key != key);
            line.values.extend(newest.map(|newest| newest.value.clone()));
        }
        line.token_id = self.lineages.token_id(&key);
        line
    }

    /// Ends the token at Authlete and here, by whatever value it is known now. Tells how many tokens
    /// Authlete ended.
    pub(crate) async fn revoke(&self, token: &str) -> Result<u64, Error> {
        let key = self.key(token);
        self.lineages.end(&key, self.clock.moment());
        let line = self.line(token).await;
        let ended = self.revoke_line(&line).await;
        self.overtake_issues();
        self.forget(token);
        // After a failure it is not known whether the token is still good: that is to be asked.
        if ended.is_ok() {
            let gone = Rejection::invalid_token("the access token was revoked");
            for value in self.lineages.alive(key) {
                self.replace(value, Some(&gone));
            }
        }
        ended
    }

    async fn revoke_line(&self, line: &Line) -> Result<u64, Error> {
        let mut ended = Ok(0);
        for value in &line.values {
            let revoked = self.revoke_value(value).await;
            ended = ended.and_then(|ended| Ok(ended + revoked?));
        }
        match (ended, &line.token_id) {
            // The newest value is not known any more.
            (Ok(0), Some(token_id)) => self.revoke_by_id(token_id).await,
            (ended, _) => ended,
        }
    }

    async fn revoke_value(&self, value: &Secret) -> Result<u64, Error> {
        let request = TokenRevokeRequest::new().access_token_identifier(value);
        // It does not wait for its turn among checks, of which somebody may make too many.
        let attempt = || self.authlete.token_revoke(&request);
        let revoked = self.caller.call("/auth/token/revoke", RetryMode::Always, attempt).await?;
        Ok(revoked.count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Revokes a token of which no value is known: it is given one, by which it is revoked.
    async fn revoke_by_id(&self, token_id: &str) -> Result<u64, Error> {
        let request = TokenUpdateRequest::new().token_id(token_id).access_token_value_updated(true);
        let attempt = || self.authlete.token_update(&request);
        let response = self.caller.call("/auth/token/update", RetryMode::Always, attempt).await?;
        match response.access_token {
            Some(value) if response.action == TokenUpdateAction::Ok => {
                self.revoke_value(&value).await
            }
            _ => Ok(0),
        }
    }

    /// Changes the token at Authlete, and what is known of it here.
    pub(crate) async fn update(
        &self,
        token: &str,
        request: TokenUpdateRequest,
    ) -> Result<TokenUpdateResponse, Error> {
        let change = self.change(self.key(token));
        let request = request.access_token(token);
        // It is not made again: it may give the token another value, and that is told once.
        let response = self.authlete.token_update(&request).await;
        match &response {
            Ok(response) if response.action == TokenUpdateAction::Ok => {
                let value = response.access_token.as_ref();
                let ended = value.filter(|value| {
                    let (new, now) = (self.key(value.expose()), self.clock.moment());
                    self.lineages.renew(&change.key, new, response.token_id.as_deref(), now)
                });
                self.write_through(&change, change.key, &request, response);
                // It was revoked meanwhile, by a value that it had no longer.
                if let Some(value) = ended {
                    self.revoke_value(value).await?;
                    self.forget(value.expose());
                }
            }
            // Whatever became of it, what is known may not be so any more.
            _ => self.forget(token),
        }
        response
    }

    /// A change of a token that is about to be sent.
    pub(crate) fn change(&self, key: Key) -> Change<'_> {
        self.change_in(&mut self.flights.lock(), key)
    }

    /// The same after a call, unless anything was learnt or changed since that told.
    pub(crate) fn change_after(&self, key: Key, call: &Flight<Asked>) -> Option<Change<'_>> {
        let mut flights = self.flights.lock();
        let current = matches!(flights.told(&key, call), Told::Landed(_));
        current.then(|| self.change_in(&mut flights, key))
    }

    fn change_in(&self, flights: &mut Table<Asked>, key: Key) -> Change<'_> {
        let (_, flight) = flights.depart(key, Purpose::Change, self.clock.moment());
        Change { verifier: self, key, flight }
    }

    /// Refreshes what is known of a token by what an update says of it, under the value that it
    /// has now. It never makes anything known: the answer says nothing of what the token is bound
    /// to. If anything else was learnt of the token meanwhile, nobody knows which is newer, and the
    /// token is forgotten.
    pub(crate) fn write_through(
        &self,
        change: &Change<'_>,
        new: Key,
        request: &TokenUpdateRequest,
        response: &TokenUpdateResponse,
    ) {
        let mut flights = self.flights.lock();
        let newest = flights.land(&change.key, &change.flight) == Standing::Newest;
        flights.forget(&change.key);
        flights.forget(&new);
        self.keep_updated(change.key, new, newest, request, response);
    }

    /// The same for a longer life, which makes no answer wrong that is on its way: it tells of less of it,
    /// and is not kept in place of this.
    pub(crate) fn write_extension_through(
        &self,
        change: &Change<'_>,
        request: &TokenUpdateRequest,
        response: &TokenUpdateResponse,
    ) {
        let key = change.key;
        let mut flights = self.flights.lock();
        let newest = flights.land(&key, &change.flight) == Standing::Newest;
        flights.overtake(&key, None);
        self.keep_updated(key, key, newest, request, response);
    }

    /// Called with the table of flights locked.
    fn keep_updated(
        &self,
        key: Key,
        new: Key,
        newest: bool,
        request: &TokenUpdateRequest,
        response: &TokenUpdateResponse,
    ) {
        let Some(cache) = &self.cache else { return };
        let bound =
            request.certificate_thumbprint.is_some() || request.dpop_key_thumbprint.is_some();
        let moved = request.access_token_value_updated;
        let same = newest && !bound && moved == (new != key);
        cache.update(&key, new, self.clock.moment(), |known, binding| {
            let fits = same && is_of_type(response, binding);
            let updated = fits.then(|| known.updated(request, response)).flatten();
            updated.map(|token| token.guarded(&self.guard, &new))
        });
    }
}

/// An update is taken for what is known only if the token is of the type that it was presented as.
fn is_of_type(response: &TokenUpdateResponse, binding: Binding) -> bool {
    let expected = if binding.key.is_some() { "DPoP" } else { "Bearer" };
    response.token_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case(expected))
}

/// An issue under way.
pub(crate) struct Issue {
    /// From when the age of what it tells counts.
    departed: Moment,
    /// How often tokens had been ended.
    endings: u64,
}

/// Values of a token: the one that was asked for, then the newest.
pub(crate) struct Line {
    pub(crate) values: Vec<Secret>,
    /// By what Authlete names the token, if its value was changed here.
    token_id: Option<String>,
    reservations: Vec<Reservation>,
}

/// A change of a token under way.
pub(crate) struct Change<'v> {
    verifier: &'v Verifier,
    key: Key,
    flight: Arc<Flight<Asked>>,
}

impl Change<'_> {
    /// Whether the token was not changed or forgotten since it began.
    pub(crate) fn is_current(&self) -> bool {
        self.verifier.flights.lock().is_under_way(&self.key, &self.flight)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.verifier.flights.lock().land(&self.key, &self.flight);
    }
}
