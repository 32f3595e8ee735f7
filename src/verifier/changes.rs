//! What is learnt of tokens by changing, issuing, ending and forgetting them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use super::{Asked, Freshness, Presented, Recheck, Verifier};
use crate::{
    api::{
        Error, Secret, TokenRevokeRequest, TokenUpdateAction, TokenUpdateRequest,
        TokenUpdateResponse,
    },
    cache::{Flight, Holder, Key, Purpose, Standing, Table},
    clock::Moment,
    observe::limited,
    rejection::Rejection,
    resilience::Again,
    rotate::Halt,
    token::TokenInfo,
    verdict::is_gone,
};

impl Verifier {
    /// Nothing that was asked or cached before this returns is used after it, of the token nor of
    /// the values it has got since.
    pub(crate) fn forget(&self, token: &str) {
        self.forget_line(self.key(token));
    }

    fn forget_line(&self, key: Key) {
        let mut next = Some(key);
        while let Some(key) = next {
            self.forget_value(key);
            next = self.rotator.as_ref().and_then(|rotator| rotator.end_overlap(&key));
        }
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
            cache.put(key, Holder::BEARER, &Err(rejection.clone()), self.clock.moment());
        }
    }

    /// How to ask about a token that is known by what issued it.
    pub(crate) fn recheck(self: &Arc<Self>, token: &str, freshness: Freshness) -> Recheck {
        let presented = Presented::bearer(self.key(token), token);
        Recheck { verifier: self.clone(), presented, freshness }
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

    /// Keeps what was said of a token when it was issued, which must be plain Bearer beyond doubt.
    /// What is known by asking is better, and stays.
    pub(crate) fn remember(&self, token: &str, issued: TokenInfo, issue: Issue) {
        let key = self.key(token);
        let mut flights = self.flights.lock();
        let Some(cache) = &self.cache else { return };
        let known = cache.get(&key, Holder::BEARER, self.clock.moment()).and_then(Result::ok);
        if known.is_some_and(|known| known.is_complete()) {
            return;
        }
        // It may have been asked about before it existed.
        flights.forget(&key);
        if self.endings.load(Ordering::Acquire) == issue.endings {
            cache.put(key, Holder::BEARER, &Ok(issued.guarded(&self.guard)), issue.departed);
        } else {
            cache.remove(&key);
        }
    }

    /// Keeps which access token came with a refresh token.
    pub(crate) fn remember_pair(&self, refresh: &str, access: &str) {
        self.pairs.remember(self.refresh_keys.key(refresh), self.key(access));
    }

    /// Forgets the access token that came with a refresh token, which is used up or revoked.
    pub(crate) fn forget_pair(&self, refresh: &str) {
        if let Some(access) = self.pairs.take(&self.refresh_keys.key(refresh)) {
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

    /// The token and the values it has got since, none of which gets another one while this lives.
    pub(crate) async fn line(&self, token: &str) -> Line<'_> {
        let mut line = Line { values: vec![token.into()], halts: Vec::new() };
        while let (Some(rotator), Some(last)) = (&self.rotator, line.values.last()) {
            let (halt, successor) =
                rotator.halt(self.key(last.expose()), self.clock.moment()).await;
            line.halts.push(halt);
            let Some(successor) = successor else { break };
            line.values.push(successor);
        }
        line
    }

    /// Ends the token at Authlete and here, by whatever value it is known now.
    pub(crate) async fn revoke(&self, token: &str) -> Result<(), Error> {
        let line = self.line(token).await;
        let mut outcome = Ok(());
        for value in &line.values {
            let request = TokenRevokeRequest::new().access_token_identifier(value);
            // It does not wait for its turn among checks, of which somebody may make too many.
            let attempt = || self.authlete.token_revoke(&request);
            let revoked = self.caller.call("/auth/token/revoke", Again::Can, attempt).await;
            outcome = outcome.and(revoked.map(|_| ()));
        }
        self.overtake_issues();
        self.forget(token);
        // After a failure it is not known whether the token is still good: that is to be asked.
        if outcome.is_ok() {
            let gone = Rejection::invalid_token("the access token was revoked");
            for value in &line.values {
                self.replace(self.key(value.expose()), Some(&gone));
            }
        }
        outcome
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
                if let Some(value) = &response.access_token {
                    self.pairs.renew(&change.key, self.key(value.expose()));
                }
                self.write_through(&change, change.key, &request, response);
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

    pub(super) fn change_in(&self, flights: &mut Table<Asked>, key: Key) -> Change<'_> {
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
        let key = change.key;
        let mut flights = self.flights.lock();
        let newest = flights.land(&key, &change.flight) == Standing::Newest;
        flights.forget(&key);
        flights.forget(&new);
        let Some(cache) = &self.cache else { return };
        let bound =
            request.certificate_thumbprint.is_some() || request.dpop_key_thumbprint.is_some();
        let moved = request.access_token_value_updated;
        let same = newest && !bound && moved == (new != key);
        cache.update(&key, new, self.clock.moment(), |known, holder| {
            let fits = same && is_of_type(response, holder);
            fits.then(|| known.updated(request, response)).flatten()
        });
    }

    /// Asks Authlete to let a token live longer, of which it just said that it is good, as long as this
    /// flight of it is not forgotten.
    pub(super) async fn extend(
        &self,
        token: &str,
        until: SystemTime,
        key: &Key,
        flight: &Flight<Asked>,
    ) -> Option<(TokenUpdateRequest, TokenUpdateResponse)> {
        let request = TokenUpdateRequest::new().access_token(token).access_token_expires_at(until);
        // To set the same end once more changes nothing, unless the token was changed in between.
        let attempt = async || {
            if !self.flights.lock().is_under_way(key, flight) {
                let changed = "the token was changed or forgotten meanwhile";
                return Err(Error::not_made("/auth/token/update", changed));
            }
            self.authlete.token_update(&request).await
        };
        match self.caller.call("/auth/token/update", Again::Can, attempt).await {
            Ok(response) if response.action == TokenUpdateAction::Ok || is_gone(&response) => {
                Some((request, response))
            }
            Ok(response) => {
                let (action, code) = (response.action, response.result_code);
                limited!(
                    warn,
                    self.log,
                    ?action,
                    code,
                    "the life of an access token could not be extended"
                );
                None
            }
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                limited!(
                    warn,
                    self.log,
                    error = cause,
                    "the life of an access token could not be extended"
                );
                None
            }
        }
    }
}

/// An update is taken for what is known only if the token is of the type that it was presented as.
fn is_of_type(response: &TokenUpdateResponse, holder: Holder) -> bool {
    let expected = if holder.key.is_some() { "DPoP" } else { "Bearer" };
    response.token_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case(expected))
}

/// An issue under way.
pub(crate) struct Issue {
    /// From when the age of what it tells counts.
    departed: Moment,
    /// How often tokens had been ended.
    endings: u64,
}

/// The values of a token, oldest first.
pub(crate) struct Line<'v> {
    pub(crate) values: Vec<Secret>,
    halts: Vec<Halt<'v>>,
}

/// A change of a token under way.
pub(crate) struct Change<'v> {
    verifier: &'v Verifier,
    key: Key,
    pub(super) flight: Arc<Flight<Asked>>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.verifier.flights.lock().land(&self.key, &self.flight);
    }
}
