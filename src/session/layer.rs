//! The layer and its settings.

use std::{fmt, sync::Arc, time::Duration};

use tower_http::csrf::{Csrf, CsrfLayer};
use tower_layer::Layer;

use super::{
    client::Client,
    cookie::Cookie,
    renewal::{Renewal, Times},
    service::SessionService,
    sessions::Sessions,
    store::SessionStore,
};
use crate::{
    api::{Authlete, ConfigError, Problems, Secret},
    clock::Clock,
};

/// Bounds the lease of a claim, which other processes wait for.
const MAX_STORE_DEADLINE: Duration = Duration::from_secs(60);

/// Presents the access token of a browser's session to the layer inside of it.
///
/// Requests without the session's cookie, or with several, pass unchanged. With one, an `Authorization`
/// header of the browser is replaced. An access token that has expired or expires within
/// [`margin`](SessionLayerBuilder::margin) is renewed first, and the new tokens are stored before they are
/// used. When the refresh token is refused, the session ends: when its access token expires, or at once if
/// that has expired. Then the response is 401 and removes the cookie.
///
/// # Renewal
/// A session is renewed once, for all its requests in all processes that share the store. The process that
/// renews it claims it in the store first. The others wait up to 1.6 s for the new tokens, and then respond
/// with 503. The claim of a process that stops lasts as long as a renewal can take: Authlete's deadline and
/// twice the store's, 9 s by default. A store with a clock of its own, such as
/// `FleetSessions` of the feature `redis`, tells when a claim ends; with others, the clocks of the
/// processes must not differ by more than about a second. Claims are numbered: a call of an older claim that
/// arrives late changes nothing.
///
/// | event | the session |
/// |---|---|
/// | Authlete rejects the call without effect, or cannot be reached | keeps the old tokens while they are valid; then 503, until it is renewed |
/// | the response of Authlete is lost | counts as renewed: nobody uses the old access token any more. 503 once; the next request uses the refresh token again, and the session ends if it is used up |
/// | the new tokens cannot be stored | 503, until they can: they are kept in memory |
/// | the session was ended, or renewed by another process, before they are stored | is unchanged; the new tokens are revoked |
///
/// Three tables of 10 000 sessions each are kept in memory: tokens that could not be stored, tokens that
/// could not be revoked, and refresh tokens that were refused before their access token expires. The least
/// recently used session is evicted. A session whose new tokens are lost by that, or with the process,
/// ends at its next use.
///
/// # Rotation
/// Where the layer inside [rotates](crate::lifecycle::AccessTokenRotation) access tokens, the session gets the new value, and the
/// browser does not: it is stored before the response continues. Give the rotation an
/// [overlap](crate::lifecycle::AccessTokenRotation::overlap) for requests that are under way with the old value. Other
/// processes accept that value for their `max_age`, or respond with 401 if they ask Authlete.
///
/// # Cross-site requests
/// Requests of unsafe methods from other origins are refused with 403, by tower-http's
/// [`csrf`](tower_http::csrf). So are requests with the `Upgrade` header, such as WebSocket handshakes, that
/// have the session's cookie and an `Origin` (or `Sec-Fetch-Site`) other than this host: browsers send the
/// cookie with them from other hosts of the same site. Other requests of safe methods from the same site
/// have the cookie and pass: they must not change anything.
///
/// Routes outside of the layer, such as those that [begin](Sessions::begin) and [end](Sessions::end) sessions,
/// need a [`CsrfLayer`] of their own.
pub struct SessionLayer<St> {
    renewal: Arc<Renewal<St>>,
    cookie: Cookie,
}

impl<St: SessionStore> SessionLayer<St> {
    /// Settings for a layer with this store.
    pub fn builder(authlete: Authlete, store: St) -> SessionLayerBuilder<St> {
        SessionLayerBuilder {
            authlete,
            store,
            client: Client { id: String::new(), secret: Secret::default(), post: false },
            times: Times {
                clock: Clock::system(),
                margin: Duration::from_secs(30),
                store_deadline: Duration::from_secs(3),
            },
            cookie: "__Host-session".into(),
        }
    }

    /// A handle that begins and ends sessions.
    #[must_use]
    pub fn sessions(&self) -> Sessions<St> {
        Sessions::new(self.renewal.clone(), self.cookie.clone())
    }
}

impl<St> Clone for SessionLayer<St> {
    fn clone(&self) -> Self {
        Self { renewal: self.renewal.clone(), cookie: self.cookie.clone() }
    }
}

impl<St> fmt::Debug for SessionLayer<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("client", &self.renewal.client.id)
            .finish_non_exhaustive()
    }
}

impl<S, St> Layer<S> for SessionLayer<St> {
    type Service = Csrf<SessionService<S, St>>;

    fn layer(&self, inner: S) -> Self::Service {
        let service = SessionService::new(inner, self.renewal.clone(), self.cookie.clone());
        CsrfLayer::new().layer(service)
    }
}

/// Settings of a [`SessionLayer`].
#[must_use = "settings do nothing until `build` is called"]
pub struct SessionLayerBuilder<St> {
    authlete: Authlete,
    store: St,
    client: Client,
    times: Times,
    cookie: String,
}

impl<St: SessionStore> SessionLayerBuilder<St> {
    /// The confidential client that the tokens were issued to: its ID and secret. Required.
    pub fn client(mut self, id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        self.client.id = id.into();
        self.client.secret = secret.into();
        self
    }

    /// Authenticates the client in the form (`client_secret_post`) rather than by Basic.
    pub fn client_secret_post(mut self) -> Self {
        self.client.post = true;
        self
    }

    /// The name of the cookie, which begins with `__Host-`. Default: `__Host-session`.
    ///
    /// Applications on one host share their cookies, even with different ports or paths: give each a
    /// different name, or a log-in at one ends the session at the other. A change of the name ends all
    /// sessions.
    pub fn cookie(self, name: impl Into<String>) -> Self {
        Self { cookie: name.into(), ..self }
    }

    /// How long before its expiry an access token is renewed, if there is a refresh token. Default: 30 s.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.times.margin = margin;
        self
    }

    /// The deadline of each call of the store. A call that exceeds it counts as failed, and the response is
    /// 503. Default: 3 s; a minute at most.
    pub fn store_deadline(mut self, deadline: Duration) -> Self {
        self.times.store_deadline = deadline;
        self
    }

    /// The clock that tells when tokens expire. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.times.clock = clock;
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    /// If the client's ID or secret is missing, the cookie's name is not legal or lacks its prefix, or the
    /// store's deadline is 0 or more than a minute.
    pub fn build(self) -> Result<SessionLayer<St>, ConfigError> {
        let mut problems = Problems::default();
        if self.client.id.is_empty() || self.client.secret.is_empty() {
            let remedy = "give the ID and secret of the client that the tokens were issued to";
            problems.add("client", "ID or secret missing", remedy);
        }
        let deadline = self.times.store_deadline;
        if deadline.is_zero() || deadline > MAX_STORE_DEADLINE {
            let problem = format!("{} ms", deadline.as_millis());
            let remedy = "give how long a call of the store takes at most, up to a minute";
            problems.add("store_deadline", problem, remedy);
        }
        let cookie = problems.take(Cookie::new(&self.cookie));
        let cookie = problems.finish(cookie)?;
        let renewal = Renewal::new(self.authlete, self.store, self.client, self.times);
        Ok(SessionLayer { renewal: Arc::new(renewal), cookie })
    }
}

impl<St> fmt::Debug for SessionLayerBuilder<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayerBuilder")
            .field("client", &self.client)
            .field("cookie", &self.cookie)
            .field("margin", &self.times.margin)
            .field("store_deadline", &self.times.store_deadline)
            .finish_non_exhaustive()
    }
}
