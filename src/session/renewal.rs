//! Renews the tokens of a session by its refresh token: one renewal for all requests in all processes,
//! stored before its tokens are used.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use tower::BoxError;

use super::{
    change::Change,
    client::{Client, is_invalid_grant, may_have_taken_effect},
    saved::{Saved, State, table},
    store::{Bounded, Replaced, SessionId, SessionStore, random},
    tokens::SessionTokens,
};
use crate::{
    api::{Authlete, Error, TokenAction},
    clock::{Clock, span},
    lifecycle::NewValueSink,
    observe::{LogLimit, limited},
    single_flight::{Call, Join, Leader, SingleFlight},
    store::{Key, KeySpace},
};

/// Before each attempt to claim a session, the time (ms) that another process has for its renewal: 1.6 s in
/// all.
const PAUSES: [u64; 7] = [0, 25, 50, 100, 200, 400, 800];

/// How often a request joins a renewal, if each is dropped or leaves its session in need of another one.
const MAX_JOINS: usize = 3;

/// The times that a renewal depends on.
pub(super) struct Times {
    pub(super) clock: Clock,
    /// How long before its expiry an access token is renewed.
    pub(super) margin: Duration,
    /// Deadline of each call of the store.
    pub(super) store_deadline: Duration,
}

pub(super) struct Renewal<St> {
    pub(super) client: Client,
    authlete: Authlete,
    saved: Saved<St>,
    times: Times,
    log: LogLimit,
    /// The random name of this process in claims.
    process: String,
    keys: KeySpace,
    renewals: SingleFlight<Key, State>,
    /// Versions, whoever claims them, of sessions whose refresh token was refused while the access token is
    /// valid.
    refused: Cache<Key, String>,
}

impl<St: SessionStore> Renewal<St> {
    pub(super) fn new(authlete: Authlete, store: St, client: Client, times: Times) -> Self {
        let log = LogLimit::new(&times.clock);
        let store = Bounded::new(store, times.store_deadline);
        Self {
            keys: KeySpace::new(&authlete.service(), "session"),
            saved: Saved::new(store, authlete.clone(), log.clone()),
            authlete,
            client,
            times,
            log,
            process: random(),
            renewals: SingleFlight::new(),
            refused: table(),
        }
    }

    fn key(&self, id: &SessionId) -> Key {
        self.keys.key(id.to_base64())
    }

    /// Stores the tokens of a new session.
    pub(super) async fn begin(
        &self,
        id: &SessionId,
        tokens: &SessionTokens,
    ) -> Result<(), BoxError> {
        self.saved.store.insert(id, tokens).await
    }

    /// Ends a session, and revokes its tokens: those of a renewal under way too, which is waited for.
    pub(super) async fn end(&self, id: &SessionId) -> Result<(), BoxError> {
        let key = self.key(id);
        let _leader: Leader<_, _> = self.renewals.occupy(key).await;
        self.saved.end(id, key).await
    }

    /// The tokens of a session, renewed if they have to be.
    pub(super) async fn tokens(self: &Arc<Self>, id: &SessionId) -> State {
        let key = self.key(id);
        for _ in 0..MAX_JOINS {
            if !self.saved.unsaved.contains_key(&key) {
                match self.saved.load(id).await {
                    State::Tokens(tokens) if self.needs_renewal(&key, &tokens) => {}
                    state => return state,
                }
            }
            if let Some(state) = self.join(id, key).outcome().await {
                return state;
            }
        }
        State::Unknown
    }

    /// The renewal of a session that is under way, or a new one.
    fn join(self: &Arc<Self>, id: &SessionId, key: Key) -> Arc<Call<State>> {
        let join = self.renewals.lock().join(key);
        let (call, leader) = match join {
            Join::Wait(call) => return call,
            Join::Lead(call, leader) => (call, leader),
        };
        let (renewal, id) = (self.clone(), id.clone());
        // In a task of its own, so that a request that is cancelled does not lose the new refresh token.
        tokio::spawn(async move {
            let state = renewal.renew(&id, key).await;
            leader.complete(state);
        });
        call
    }

    /// Stores new values of a session's access token, in place of the browser.
    pub(super) fn sink(self: &Arc<Self>, id: &SessionId, tokens: &SessionTokens) -> NewValueSink {
        let (renewal, id, old) = (self.clone(), id.clone(), tokens.access_token.clone());
        NewValueSink::new(old.clone(), move |new| {
            let (renewal, id) = (renewal.clone(), id.clone());
            let change = Change::Rotated { old: old.clone(), new };
            Box::pin(async move { renewal.rotated(&id, change).await })
        })
    }

    async fn rotated(self: &Arc<Self>, id: &SessionId, change: Change) {
        let (key, unsaved) = (self.key(id), &self.saved.unsaved);
        // From here on nobody presents the old value. A renewal that is kept there replaces it anyway.
        unsaved.entry(key).or_insert(change);
        for _ in 0..MAX_JOINS {
            // A renewal that was under way may not have seen the entry.
            if !unsaved.contains_key(&key) {
                return;
            }
            if let State::Unknown = self.tokens(id).await {
                return;
            }
        }
    }

    /// Whether the tokens must not be presented as they are.
    fn needs_renewal(&self, key: &Key, tokens: &SessionTokens) -> bool {
        tokens.claimant().is_some() || self.is_due(key, tokens)
    }

    /// Whether the access token has expired or expires soon, and can be renewed.
    fn is_due(&self, key: &Key, tokens: &SessionTokens) -> bool {
        let Times { clock, margin, .. } = &self.times;
        let near = |at| clock.now().checked_add(*margin).is_none_or(|until| at <= until);
        tokens.refresh_token.is_some()
            && tokens.expires_at.is_some_and(near)
            && !(self.is_valid(tokens)
                && self.refused.get(key).is_some_and(|it| it == tokens.unclaimed_version()))
    }

    fn is_valid(&self, tokens: &SessionTokens) -> bool {
        tokens.expires_at.is_none_or(|at| self.times.clock.now() < at)
    }

    /// The tokens that could not be renewed, while they are valid.
    fn while_valid(&self, old: SessionTokens) -> State {
        if self.is_valid(&old) { State::Tokens(old) } else { State::Unknown }
    }

    /// How long a claim lasts (ms): as long as a renewal can take.
    fn lease(&self) -> u64 {
        let calls =
            [self.times.store_deadline, self.authlete.deadline(), self.times.store_deadline];
        span(calls.into_iter().fold(Duration::ZERO, Duration::saturating_add))
    }

    /// Whether another process is renewing the tokens. A claim that ends far in the future comes from a
    /// wrong clock, and is ignored.
    fn is_claimed_elsewhere(&self, tokens: &SessionTokens) -> bool {
        let left = tokens.claim_left(self.times.clock.now_millis());
        let theirs = tokens.claimant() != Some(&self.process);
        theirs && left > 0 && left <= self.lease().saturating_mul(2)
    }

    /// Loads the session again, since another process may have renewed it by now, and renews it.
    async fn renew(&self, id: &SessionId, key: Key) -> State {
        if let Some(change) = self.saved.unsaved.get(&key) {
            match self.saved.apply(id, key, change, None).await {
                State::Tokens(tokens) if self.needs_renewal(&key, &tokens) => {}
                state => return state,
            }
        }
        match self.claim(id, &key).await {
            Ok((claimed, in_doubt)) => self.refresh(id, key, claimed, in_doubt).await,
            Err(state) => state,
        }
    }

    /// Claims the session, so that no other process uses the refresh token. The flag tells whether a process
    /// that claimed it before may have used it. `Err`: the state of the session if it cannot be claimed.
    async fn claim(&self, id: &SessionId, key: &Key) -> Result<(SessionTokens, bool), State> {
        for pause in PAUSES.map(Duration::from_millis) {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let old = match self.saved.load(id).await {
                State::Tokens(tokens) if self.needs_renewal(key, &tokens) => tokens,
                state => return Err(state),
            };
            if self.is_claimed_elsewhere(&old) {
                continue;
            }
            let claimed = old.claimed(&self.process, self.times.clock.now_millis(), self.lease());
            let in_doubt = old.claimant().is_some();
            match self.saved.store.replace(id, &old, &claimed).await {
                Ok(Replaced::Done) => return Ok((claimed, in_doubt)),
                Ok(Replaced::Conflict) => {}
                Err(error) => {
                    limited!(error, self.log, error = &*error, "a session could not be claimed");
                    return Err(if in_doubt { State::Unknown } else { self.while_valid(old) });
                }
            }
        }
        Err(State::Unknown)
    }

    /// Uses the refresh token of a claimed session, and stores the new tokens.
    async fn refresh(
        &self,
        id: &SessionId,
        key: Key,
        claimed: SessionTokens,
        in_doubt: bool,
    ) -> State {
        // Only sessions with a refresh token are claimed.
        let Some(refresh_token) = claimed.refresh_token.clone() else { return State::Unknown };
        let response = match self.authlete.token(&self.client.refresh(&refresh_token)).await {
            Ok(response) => response,
            Err(error) => {
                self.log_failure(&error);
                return self.release(id, claimed, in_doubt || may_have_taken_effect(&error)).await;
            }
        };
        match (response.action, SessionTokens::from_response(&response)) {
            (TokenAction::Ok, Some(mut new)) => {
                // A refresh token that stays in use may be absent from the response (RFC 6749 §6).
                new.refresh_token = new.refresh_token.or(Some(refresh_token));
                let change = Change::Renewed { claimed: claimed.clone(), new };
                unless_claimed(self.saved.apply(id, key, change, Some(claimed)).await)
            }
            (TokenAction::BadRequest, _) if is_invalid_grant(&response) => {
                self.refresh_token_refused(id, key, claimed, in_doubt).await
            }
            (action, _) => {
                let code = response.result_code;
                limited!(error, self.log, ?action, code, "a session could not be renewed");
                self.release(id, claimed, in_doubt || action == TokenAction::Ok).await
            }
        }
    }

    // Not part of `refresh`, whose future would hold a `&dyn Error` and not be `Send`.
    fn log_failure(&self, error: &Error) {
        let error = error as &dyn std::error::Error;
        limited!(error, self.log, error, "a session could not be renewed");
    }

    /// Releases the claim of tokens that were not renewed. In doubt, the refresh token may be used up and
    /// the access token revoked with it: then they stay claimed, and nobody uses them.
    async fn release(&self, id: &SessionId, claimed: SessionTokens, in_doubt: bool) -> State {
        if in_doubt {
            return State::Unknown;
        }
        let old = claimed.unclaimed();
        match self.saved.store.replace(id, &claimed, &old).await {
            Ok(Replaced::Done) => self.while_valid(old),
            Ok(Replaced::Conflict) => unless_claimed(self.saved.load(id).await),
            Err(error) => {
                limited!(error, self.log, error = &*error, "a session stays claimed");
                self.while_valid(old)
            }
        }
    }

    /// Ends a session whose refresh token is refused: when its access token expires, or at once if that has
    /// expired or its state is in doubt.
    async fn refresh_token_refused(
        &self,
        id: &SessionId,
        key: Key,
        claimed: SessionTokens,
        in_doubt: bool,
    ) -> State {
        match self.saved.load(id).await {
            State::Tokens(stored) if stored.shares_claim(&claimed) => {
                if self.is_valid(&claimed) && !in_doubt {
                    self.refused.insert(key, claimed.unclaimed_version());
                    return self.release(id, claimed, in_doubt).await;
                }
                if let Err(error) = self.saved.store.remove(id).await {
                    limited!(
                        error,
                        self.log,
                        error = &*error,
                        "a session that has ended is still stored"
                    );
                }
                State::Ended
            }
            state => unless_claimed(state),
        }
    }
}

/// Tokens that another process has claimed must not be used.
fn unless_claimed(state: State) -> State {
    match state {
        State::Tokens(tokens) if tokens.claimant().is_some() => State::Unknown,
        state => state,
    }
}
