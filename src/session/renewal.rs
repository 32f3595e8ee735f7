//! Renews the tokens of a session: once for all its requests, and saved before anyone uses them.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use tokio::sync::watch;
use tower::BoxError;

use super::store::{SessionId, SessionStore, SessionTokens};
use crate::{
    api::{Authlete, Secret, TokenAction, TokenRequest, TokenResponse, TokenRevokeRequest},
    cache::{Berth, Flight, Flights, Key, KeySpace, Purpose},
    clock::Clock,
    observe::{LogLimit, limited},
};

/// How many sessions can wait to be saved again, and how many for their tokens to be revoked.
const MAX_UNSAVED: u64 = 10_000;

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

pub(super) struct Renewal<St> {
    pub(super) authlete: Authlete,
    pub(super) store: St,
    pub(super) client: Client,
    pub(super) clock: Clock,
    log: LogLimit,
    /// How long before its expiry an access token is renewed.
    pub(super) margin: Duration,
    pub(super) keys: KeySpace,
    pub(super) flights: Flights<State>,
    /// Tokens that could not be saved. They are used by nobody until they are.
    pub(super) unsaved: Cache<Key, SessionTokens>,
    /// Tokens of sessions that were ended, if they could not be revoked.
    unrevoked: Cache<Key, SessionTokens>,
}

impl<St: SessionStore> Renewal<St> {
    pub(super) fn new(
        authlete: Authlete,
        store: St,
        client: Client,
        clock: Clock,
        margin: Duration,
    ) -> Self {
        let keys = KeySpace::new(&authlete.identity(), "token", "session");
        let (unsaved, unrevoked) = (Cache::new(MAX_UNSAVED), Cache::new(MAX_UNSAVED));
        let (flights, log) = (Flights::new(), LogLimit::new(&clock));
        Self { authlete, store, client, clock, log, margin, keys, flights, unsaved, unrevoked }
    }

    fn key(&self, id: &SessionId) -> Key {
        self.keys.key(&id.to_base64())
    }

    /// The tokens of a session, renewed if they have to be.
    pub(super) async fn tokens(self: &Arc<Self>, id: &SessionId) -> State {
        let key = self.key(id);
        if !self.unsaved.contains_key(&key) {
            match self.load(id).await {
                State::Tokens(tokens) if self.is_due(&tokens) => {}
                state => return state,
            }
        }
        let (flight, renewing) = {
            let mut flights = self.flights.lock();
            match flights.join(&key, Purpose::SHARED) {
                Some(flight) => (flight, None),
                None => {
                    let (sender, flight) =
                        flights.depart(key, Purpose::SHARED, self.clock.moment());
                    let (renewal, id) = (self.clone(), id.clone());
                    (flight.clone(), Some(Renewing { renewal, id, key, flight, sender }))
                }
            }
        };
        if let Some(renewing) = renewing {
            // A task of its own: a tab that is closed must not lose the new refresh token.
            tokio::spawn(renewing.run());
        }
        flight.outcome().await.unwrap_or(State::Unknown)
    }

    /// Keeps a session from being renewed, after waiting for a renewal that is on its way.
    pub(super) async fn halt(&self, id: &SessionId) -> Berth<'_, State> {
        self.flights.occupy(self.key(id), self.clock.moment()).await
    }

    /// Ends a session, and revokes its tokens.
    pub(super) async fn log_out(&self, id: &SessionId) -> Result<(), BoxError> {
        // A renewal on its way would bring the session back.
        let _halt = self.halt(id).await;
        let key = self.key(id);
        let tokens = self.last(id).await?.or_else(|| self.unrevoked.get(&key));
        self.store.remove(id).await?;
        self.unsaved.invalidate(&key);
        let Some(tokens) = tokens else { return Ok(()) };
        // To revoke either of a pair ends both, and the access token may be gone already.
        let request = TokenRevokeRequest::new();
        let request = match &tokens.refresh_token {
            Some(refresh) => request.refresh_token_identifier(refresh),
            None => request.access_token_identifier(&tokens.access_token),
        };
        // The session is over whether or not this succeeds; nobody else knows its tokens.
        self.unrevoked.insert(key, tokens);
        self.authlete.token_revoke(&request).await.inspect_err(|error| {
            let cause = error as &dyn std::error::Error;
            limited!(
                error,
                self.log,
                error = cause,
                "the tokens of a session that has ended live on"
            );
        })?;
        self.unrevoked.invalidate(&key);
        Ok(())
    }

    /// The newest tokens of a session, saved or not.
    pub(super) async fn last(&self, id: &SessionId) -> Result<Option<SessionTokens>, BoxError> {
        match self.unsaved.get(&self.key(id)) {
            Some(tokens) => Ok(Some(tokens)),
            None => self.store.load(id).await,
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

    /// Whether the access token has expired or is about to, and can be renewed.
    fn is_due(&self, tokens: &SessionTokens) -> bool {
        let near = |at| self.clock.now().checked_add(self.margin).is_none_or(|until| at <= until);
        tokens.refresh_token.is_some() && tokens.expires_at.is_some_and(near)
    }

    fn is_good(&self, tokens: &SessionTokens) -> bool {
        tokens.expires_at.is_none_or(|at| self.clock.now() < at)
    }

    /// Looks at the session once more, since somebody may have renewed it by now, and renews it.
    async fn renew(&self, id: &SessionId, key: Key) -> State {
        if let Some(tokens) = self.unsaved.get(&key) {
            return self.save(id, key, tokens).await;
        }
        let old = match self.load(id).await {
            State::Tokens(tokens) if self.is_due(&tokens) => tokens,
            state => return state,
        };
        let Some(refresh_token) = old.refresh_token.clone() else { return State::Tokens(old) };
        let response = match self.authlete.token(&self.request(&refresh_token)).await {
            Ok(response) => response,
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                limited!(error, self.log, error = cause, "a session could not be renewed");
                return self.go_on(old);
            }
        };
        match (response.action, SessionTokens::from_response(&response)) {
            (TokenAction::Ok, Some(mut tokens)) => {
                // A service that keeps refresh tokens need not send them again.
                tokens.refresh_token = tokens.refresh_token.or(Some(refresh_token));
                self.save(id, key, tokens).await
            }
            (TokenAction::BadRequest, _) if is_invalid_grant(&response) => {
                self.end(id, &refresh_token).await
            }
            (action, _) => {
                let code = response.result_code;
                limited!(error, self.log, ?action, code, "a session could not be renewed");
                self.go_on(old)
            }
        }
    }

    /// The tokens that could not be renewed, for as long as they are good.
    fn go_on(&self, old: SessionTokens) -> State {
        if self.is_good(&old) { State::Tokens(old) } else { State::Unknown }
    }

    /// New tokens are used by nobody before they are saved: the old refresh token is used up.
    async fn save(&self, id: &SessionId, key: Key, tokens: SessionTokens) -> State {
        match self.store.save(id, &tokens).await {
            Ok(()) => {
                self.unsaved.invalidate(&key);
                State::Tokens(tokens)
            }
            Err(error) => {
                limited!(
                    error,
                    self.log,
                    error = &*error,
                    "the new tokens of a session could not be saved; they are kept in memory, and \
                     the session waits until they can be"
                );
                self.unsaved.insert(key, tokens);
                State::Unknown
            }
        }
    }

    /// The refresh token is of no use. Unless another process has renewed the session meanwhile, it
    /// has ended.
    async fn end(&self, id: &SessionId, used: &Secret) -> State {
        match self.load(id).await {
            State::Tokens(tokens)
                if tokens.refresh_token.as_ref().map(Secret::expose) != Some(used.expose()) =>
            {
                State::Tokens(tokens)
            }
            State::Unknown => State::Unknown,
            _ => {
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

fn is_invalid_grant(response: &TokenResponse) -> bool {
    let content = response.response_content.as_ref().map_or("", Secret::expose);
    let body: serde_json::Value = serde_json::from_str(content).unwrap_or_default();
    body["error"] == "invalid_grant"
}

/// A renewal under way, which takes itself off the table whatever becomes of it.
struct Renewing<St: SessionStore> {
    renewal: Arc<Renewal<St>>,
    id: SessionId,
    key: Key,
    flight: Arc<Flight<State>>,
    sender: watch::Sender<Option<State>>,
}

impl<St: SessionStore> Renewing<St> {
    async fn run(self) {
        let state = self.renewal.renew(&self.id, self.key).await;
        self.renewal.flights.lock().land(&self.key, &self.flight);
        self.sender.send_replace(Some(state));
    }
}

impl<St: SessionStore> Drop for Renewing<St> {
    fn drop(&mut self) {
        self.renewal.flights.lock().land(&self.key, &self.flight);
    }
}
