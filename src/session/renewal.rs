//! Renews the tokens of a session: once for all its requests in all processes, and stored before anyone
//! uses them.

use std::{sync::Arc, time::Duration};

use moka::{policy::EvictionPolicy, sync::Cache};

use super::{
    change::Change,
    store::{Bounded, Replaced, SessionId, SessionStore, random},
    tokens::SessionTokens,
};
use crate::{
    api::{Authlete, Error, Secret, TokenAction, TokenRequest, TokenResponse},
    clock::Clock,
    lifecycle::NewValueSink,
    observe::{LogLimit, limited},
    single_flight::{Call, Join, Leader, SingleFlight},
    store::{Key, KeySpace},
};

/// Of how many sessions each table holds something.
const MAX_REMEMBERED: u64 = 10_000;

/// After which pauses a request looks whether another process has finished its renewal (ms): 1.6 s in all.
const PAUSES: [u64; 7] = [0, 25, 50, 100, 200, 400, 800];

/// How often a request joins a renewal that breaks off, or that makes room for something else.
const MAX_JOINS: usize = 3;

/// What there is to go on with.
#[derive(Clone)]
pub(super) enum State {
    /// Tokens that are good, as far as is known here.
    Tokens(SessionTokens),
    /// There is no such session, or no more.
    Ended,
    /// It is not known now.
    Unknown,
}

/// How the client is authenticated at the token endpoint.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: Secret,
    /// In the form rather than by Basic.
    pub(super) post: bool,
}

/// The times that count in a renewal.
pub(super) struct Times {
    pub(super) clock: Clock,
    /// How long before its expiry an access token is renewed.
    pub(super) margin: Duration,
    /// How long a call of the store takes at most.
    pub(super) store_deadline: Duration,
}

pub(super) struct Renewal<St> {
    pub(super) authlete: Authlete,
    pub(super) store: Bounded<St>,
    pub(super) client: Client,
    times: Times,
    pub(super) log: LogLimit,
    /// How this process is called in claims.
    me: String,
    keys: KeySpace,
    renewals: SingleFlight<Key, State>,
    /// Changes that could not be stored. Nobody uses their sessions until they are.
    pub(super) unsaved: Cache<Key, Change>,
    /// Tokens of sessions that were ended, if they could not be revoked.
    pub(super) unrevoked: Cache<Key, Vec<SessionTokens>>,
    /// Versions of sessions whose refresh token was refused while the access token is good.
    refused: Cache<Key, String>,
}

fn table<V: Clone + Send + Sync + 'static>() -> Cache<Key, V> {
    Cache::builder().max_capacity(MAX_REMEMBERED).eviction_policy(EvictionPolicy::lru()).build()
}

impl<St: SessionStore> Renewal<St> {
    pub(super) fn new(authlete: Authlete, store: St, client: Client, times: Times) -> Self {
        Self {
            keys: KeySpace::new(&authlete.identity(), "token", "session"),
            authlete,
            store: Bounded::new(store, times.store_deadline),
            client,
            log: LogLimit::new(&times.clock),
            times,
            me: random(),
            renewals: SingleFlight::new(),
            unsaved: table(),
            unrevoked: table(),
            refused: table(),
        }
    }

    fn key(&self, id: &SessionId) -> Key {
        self.keys.key(&id.to_base64())
    }

    /// The tokens of a session, renewed if they have to be.
    pub(super) async fn tokens(self: &Arc<Self>, id: &SessionId) -> State {
        let key = self.key(id);
        for _ in 0..MAX_JOINS {
            if !self.unsaved.contains_key(&key) {
                match self.load(id).await {
                    State::Tokens(tokens) if self.is_unsettled(&key, &tokens) => {}
                    state => return state,
                }
            }
            if let Some(state) = self.join(id, key).outcome().await {
                return state;
            }
        }
        State::Unknown
    }

    /// The renewal of a session that is on its way, or else a new one.
    fn join(self: &Arc<Self>, id: &SessionId, key: Key) -> Arc<Call<State>> {
        let join = self.renewals.lock().join(key);
        let (call, leader) = match join {
            Join::Wait(call) => return call,
            Join::Lead(call, leader) => (call, leader),
        };
        let (renewal, id) = (self.clone(), id.clone());
        // A task of its own: a tab that is closed must not lose the new refresh token.
        tokio::spawn(async move {
            let state = renewal.renew(&id, key).await;
            leader.complete(state);
        });
        call
    }

    /// Keeps a session from being renewed, after waiting for a renewal that is on its way.
    pub(super) async fn halt(&self, id: &SessionId) -> (Key, Leader<Key, State>) {
        let key = self.key(id);
        (key, self.renewals.occupy(key).await)
    }

    /// Takes new values of a session's access token in place of the browser.
    pub(super) fn sink(self: &Arc<Self>, id: &SessionId, tokens: &SessionTokens) -> NewValueSink {
        let (renewal, id, old) = (self.clone(), id.clone(), tokens.access_token.clone());
        NewValueSink::new(old.clone(), move |new| {
            let (renewal, id) = (renewal.clone(), id.clone());
            let change = Change::Rotated { old: old.clone(), new };
            Box::pin(async move { renewal.rotated(&id, change).await })
        })
    }

    async fn rotated(self: &Arc<Self>, id: &SessionId, change: Change) {
        let key = self.key(id);
        // From now on nobody presents the old value. A renewal that waits there brings other tokens.
        self.unsaved.entry(key).or_insert(change);
        for _ in 0..MAX_JOINS {
            // A renewal that was on its way may not have looked there.
            if !self.unsaved.contains_key(&key) {
                return;
            }
            if let State::Unknown = self.tokens(id).await {
                return;
            }
        }
    }

    async fn load(&self, id: &SessionId) -> State {
        match self.store.load(id).await {
            Ok(Some(tokens)) => State::Tokens(tokens),
            Ok(None) => State::Ended,
            Err(error) => {
                limited!(
                    error,
                    self.log,
                    error = &*error,
                    "the tokens of a session could not be loaded"
                );
                State::Unknown
            }
        }
    }

    /// Whether the tokens cannot be presented as they are.
    fn is_unsettled(&self, key: &Key, tokens: &SessionTokens) -> bool {
        tokens.claimant().is_some() || self.is_due(key, tokens)
    }

    /// Whether the access token has expired or is about to, and can be renewed.
    fn is_due(&self, key: &Key, tokens: &SessionTokens) -> bool {
        let Times { clock, margin, .. } = &self.times;
        let near = |at| clock.now().checked_add(*margin).is_none_or(|until| at <= until);
        tokens.refresh_token.is_some()
            && tokens.expires_at.is_some_and(near)
            && !(self.is_good(tokens)
                && self.refused.get(key).is_some_and(|refused| refused == tokens.version()))
    }

    fn is_good(&self, tokens: &SessionTokens) -> bool {
        tokens.expires_at.is_none_or(|at| self.times.clock.now() < at)
    }

    /// The tokens that could not be renewed, for as long as they are good.
    fn go_on(&self, old: SessionTokens) -> State {
        if self.is_good(&old) { State::Tokens(old) } else { State::Unknown }
    }

    /// How long a claim is good (ms): as long as a renewal can take.
    fn lease(&self) -> u64 {
        let calls =
            [self.times.store_deadline, self.authlete.deadline(), self.times.store_deadline];
        let lease = calls.into_iter().fold(Duration::ZERO, Duration::saturating_add);
        u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether another process is renewing the tokens. What lies far ahead is of a clock that was wrong.
    fn is_claimed_elsewhere(&self, tokens: &SessionTokens) -> bool {
        let now = self.times.clock.now_millis();
        let left = tokens.claimed_until().and_then(|until| until.checked_sub(now)).unwrap_or(0);
        let theirs = tokens.claimant() != Some(&self.me);
        theirs && left > 0 && left <= self.lease().saturating_mul(2)
    }

    /// Looks at the session once more, since somebody may have renewed it by now, and renews it.
    async fn renew(&self, id: &SessionId, key: Key) -> State {
        if let Some(change) = self.unsaved.get(&key) {
            match self.apply(id, key, change, None).await {
                State::Tokens(tokens) if self.is_unsettled(&key, &tokens) => {}
                state => return state,
            }
        }
        match self.claim(id, &key).await {
            Ok((claimed, in_doubt)) => self.refresh(id, key, claimed, in_doubt).await,
            Err(state) => state,
        }
    }

    /// Sees to it that no other process uses the refresh token too. In doubt is whether somebody has used
    /// it already. It fails with the state that there is to go on with instead.
    async fn claim(&self, id: &SessionId, key: &Key) -> Result<(SessionTokens, bool), State> {
        for pause in PAUSES.map(Duration::from_millis) {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let old = match self.load(id).await {
                State::Tokens(tokens) if self.is_unsettled(key, &tokens) => tokens,
                state => return Err(state),
            };
            if !self.is_claimed_elsewhere(&old) {
                let until = self.times.clock.now_millis().saturating_add(self.lease());
                let claimed = old.claimed(&self.me, until);
                let in_doubt = old.claimant().is_some();
                match self.store.replace(id, &old, &claimed).await {
                    Ok(Replaced::Done) => return Ok((claimed, in_doubt)),
                    Ok(Replaced::Conflict) => {}
                    Err(error) => {
                        limited!(
                            error,
                            self.log,
                            error = &*error,
                            "a session could not be claimed"
                        );
                        return Err(if in_doubt { State::Unknown } else { self.go_on(old) });
                    }
                }
            }
        }
        Err(State::Unknown)
    }

    async fn refresh(
        &self,
        id: &SessionId,
        key: Key,
        claimed: SessionTokens,
        in_doubt: bool,
    ) -> State {
        // Only what can be renewed is claimed.
        let Some(refresh_token) = claimed.refresh_token.clone() else { return State::Unknown };
        let response = match self.authlete.token(&self.request(&refresh_token)).await {
            Ok(response) => response,
            Err(error) => {
                let in_doubt = in_doubt || may_have_taken_effect(&error);
                self.note(&error);
                return self.give_up(id, claimed, in_doubt).await;
            }
        };
        match (response.action, SessionTokens::from_response(&response)) {
            (TokenAction::Ok, Some(mut new)) => {
                // A service that keeps refresh tokens need not send them again.
                new.refresh_token = new.refresh_token.or(Some(refresh_token));
                let change = Change::Renewed { claimed: claimed.clone(), new };
                match self.apply(id, key, change, Some(claimed)).await {
                    State::Tokens(tokens) if tokens.claimant().is_some() => State::Unknown,
                    state => state,
                }
            }
            (TokenAction::BadRequest, _) if is_invalid_grant(&response) => {
                self.refused(id, key, claimed, in_doubt).await
            }
            (action, _) => {
                let code = response.result_code;
                limited!(error, self.log, ?action, code, "a session could not be renewed");
                self.give_up(id, claimed, in_doubt || action == TokenAction::Ok).await
            }
        }
    }

    fn note(&self, error: &Error) {
        let cause = error as &dyn std::error::Error;
        limited!(error, self.log, error = cause, "a session could not be renewed");
    }

    /// The tokens were not renewed. If that is in doubt, the old ones may have ended, and nobody uses them
    /// any more: they stay claimed.
    async fn give_up(&self, id: &SessionId, claimed: SessionTokens, in_doubt: bool) -> State {
        if in_doubt {
            return State::Unknown;
        }
        let old = claimed.unclaimed();
        match self.store.replace(id, &claimed, &old).await {
            Ok(Replaced::Done) => self.go_on(old),
            Ok(Replaced::Conflict) => match self.load(id).await {
                State::Tokens(tokens) if tokens.claimant().is_some() => State::Unknown,
                state => state,
            },
            Err(error) => {
                limited!(error, self.log, error = &*error, "a session stays claimed");
                self.go_on(old)
            }
        }
    }

    /// The refresh token is of no use. The session ends: at once, or with its access token if that is good.
    async fn refused(
        &self,
        id: &SessionId,
        key: Key,
        claimed: SessionTokens,
        in_doubt: bool,
    ) -> State {
        match self.load(id).await {
            State::Tokens(stored) if stored.claimant() == Some(&self.me) => {
                if self.is_good(&claimed) && !in_doubt {
                    self.refused.insert(key, claimed.unclaimed().version());
                    return self.give_up(id, claimed, in_doubt).await;
                }
                if let Err(error) = self.store.remove(id).await {
                    limited!(
                        error,
                        self.log,
                        error = &*error,
                        "a session that has ended is still stored"
                    );
                }
                State::Ended
            }
            // Somebody else goes on with it.
            State::Tokens(stored) if stored.claimant().is_some() => State::Unknown,
            state => state,
        }
    }

    fn request(&self, refresh_token: &Secret) -> TokenRequest {
        let Client { id, secret, post } = &self.client;
        let mut pairs =
            vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        if *post {
            pairs.extend([("client_id", id.as_str()), ("client_secret", secret.expose())]);
        }
        // Pairs of texts always make a form.
        let form = serde_html_form::to_string(pairs).unwrap_or_default();
        let request = TokenRequest::new().parameters(form);
        if *post { request } else { request.client_id(id).client_secret(secret) }
    }
}

/// Whether Authlete may have used the refresh token up, though nobody knows the new tokens.
fn may_have_taken_effect(error: &Error) -> bool {
    !(error.is_unsent() || error.is_turned_away() || error.is_our_fault())
}

fn is_invalid_grant(response: &TokenResponse) -> bool {
    let content = response.response_content.as_ref().map_or("", Secret::expose);
    let body: serde_json::Value = serde_json::from_str(content).unwrap_or_default();
    body["error"] == "invalid_grant"
}
