//! The settings of a layer.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    auth::AuthLayer,
    settings::{Options, Settings},
};
#[cfg(feature = "dpop")]
use crate::proof::Dpop;
use crate::{
    api::{Authlete, ConfigError},
    authorize::Require,
    clock::{Clock, DAY},
    credentials::TokenSource,
    introspect::{Check, Introspector},
    lifecycle::{Lifecycle, Lineages, Parts, Refresh, Rotation},
    metadata::ProtectedResource,
    observe::LogLimit,
    precheck::Precheck,
    proof::{ClientCertificates, MessageSignatures},
    rejection::{
        EmptyBody, Refuser,
        challenge::{Challenges, is_text},
    },
    resilience::ResiliencePolicy,
    store::{KeySpace, Limits, TokenStore, epoch::Epochs},
    verify::{Freshness, Verifier},
};

impl AuthLayer {
    /// A layer with all settings at their defaults.
    #[must_use]
    pub fn new(authlete: Authlete) -> Self {
        AuthLayerBuilder::new(authlete).finish()
    }

    /// Settings for a layer.
    pub fn builder(authlete: Authlete) -> AuthLayerBuilder {
        AuthLayerBuilder::new(authlete)
    }
}

/// Settings of an [`AuthLayer`].
#[must_use = "settings do nothing until `build` is called"]
pub struct AuthLayerBuilder<R = EmptyBody> {
    authlete: Authlete,
    check: Check,
    clock: Clock,
    limits: Limits,
    refresh: Option<Refresh>,
    rotation: Option<Rotation>,
    resilience: ResiliencePolicy,
    #[cfg(feature = "dpop")]
    dpop: Option<Dpop>,
    options: Options,
    renderer: R,
}

impl AuthLayerBuilder {
    fn new(authlete: Authlete) -> Self {
        let limits = Limits {
            max_age: Duration::from_secs(60),
            max_entries: 100_000,
            negative_max_age: Duration::from_secs(10),
            negative_max_entries: 10_000,
            stale: Duration::ZERO,
            ahead: None,
        };
        let options = Options {
            sources: Vec::new(),
            max_token_length: 16 * 1024,
            optional: false,
            strip: false,
            token_info_alone: false,
            precheck: None,
            require: None,
            challenges: Challenges::default(),
            certificates: None,
            signatures: None,
            #[cfg(feature = "dpop")]
            dpop: None,
        };
        let (check, clock) = (Check::default(), Clock::system());
        Self {
            authlete,
            check,
            clock,
            limits,
            refresh: None,
            rotation: None,
            resilience: ResiliencePolicy::default(),
            #[cfg(feature = "dpop")]
            dpop: None,
            options,
            renderer: EmptyBody,
        }
    }
}

impl<R> AuthLayerBuilder<R> {
    /// By which API tokens are checked. Default: [`Check::Introspection`].
    pub fn check(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// How long an answer that a token is good may be used, at most: never past the token's expiry.
    /// It bounds how long a token that was revoked elsewhere still works here. Zero turns the cache
    /// off, and each request asks for itself. Default: 60 s; at most a day.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.limits.max_age = max_age;
        self
    }

    /// How many answers that a token is good are kept; one counts for more if it is larger than
    /// 4 KiB. Default: 100 000.
    pub fn max_entries(mut self, max_entries: u64) -> Self {
        self.limits.max_entries = max_entries;
        self
    }

    /// How long an answer that a token is bad may be used. Zero keeps none. Default: 10 s; at most a
    /// day. A token that has become good since is refused for so long.
    pub fn negative_max_age(mut self, max_age: Duration) -> Self {
        self.limits.negative_max_age = max_age;
        self
    }

    /// How many answers that a token is bad are kept, in a pool of their own. Default: 10 000.
    pub fn negative_max_entries(mut self, max_entries: u64) -> Self {
        self.limits.negative_max_entries = max_entries;
        self
    }

    /// Keeps nothing: every request asks Authlete, on its own. The same as a
    /// [`max_age`](Self::max_age) and a [`negative_max_age`](Self::negative_max_age) of zero. For a
    /// route, see [`AuthLayer::no_cache`].
    pub fn no_cache(self) -> Self {
        self.max_age(Duration::ZERO).negative_max_age(Duration::ZERO)
    }

    /// What the token of every request has to meet. Requirements that are given one after another must
    /// all be met. Default: a good token.
    ///
    /// Where the layer is [`optional`](Self::optional), this is for requests that present a token: those
    /// without one pass.
    pub fn require(mut self, require: impl Into<Require>) -> Self {
        let require = require.into();
        self.options.require = Some(match self.options.require.take() {
            Some(before) => before.and(require),
            None => require,
        });
        self
    }

    /// Lets requests without credentials pass, with no token in their extensions, whatever the layer
    /// [requires](Self::require): that is for requests that present a token. Bad credentials are still
    /// refused. Default: off.
    ///
    /// On routes that need a token, add a [`Require`] or an extractor of axum, which refuse requests
    /// without one with 401; or leave this out.
    pub fn optional(mut self) -> Self {
        self.options.optional = true;
        self
    }

    /// A further place to look for the token in, beside the `Authorization` header.
    pub fn token_source(mut self, source: impl TokenSource) -> Self {
        self.options.sources.push(Box::new(source));
        self
    }

    /// The length (bytes) beyond which a token is refused unseen. Default: 16 KiB.
    pub fn max_token_length(mut self, max_token_length: usize) -> Self {
        self.options.max_token_length = max_token_length;
        self
    }

    /// Takes the token away before the request goes on: the `Authorization` header, and those of
    /// other [sources](TokenSource::header). Otherwise they are marked sensitive. Default: off.
    pub fn strip_credentials(mut self) -> Self {
        self.options.strip = true;
        self
    }

    /// Puts [`TokenInfo`](crate::TokenInfo) alone into the extensions of requests, which saves two
    /// allocations; [`Scopes`](crate::Scopes) and [`Properties`](crate::Properties) are found by it. The
    /// extractors of axum find all three in any case. Default: all three are put there.
    pub fn token_info_alone(mut self) -> Self {
        self.options.token_info_alone = true;
        self
    }

    /// The `realm` of challenges (RFC 9110 §11.5). Default: none.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.options.challenges.realm = Some(realm.into());
        self
    }

    /// Writes the responses of requests that are refused, for example
    /// [`ProblemDetails`](crate::ProblemDetails). Default: no body.
    pub fn renderer<R2>(self, renderer: R2) -> AuthLayerBuilder<R2> {
        AuthLayerBuilder {
            authlete: self.authlete,
            check: self.check,
            clock: self.clock,
            limits: self.limits,
            refresh: self.refresh,
            rotation: self.rotation,
            resilience: self.resilience,
            #[cfg(feature = "dpop")]
            dpop: self.dpop,
            options: self.options,
            renderer,
        }
    }

    /// Accepts tokens with proofs of possession (RFC 9449), beside bearer tokens. Default: off, and
    /// `Authorization: DPoP` is 401.
    #[cfg(feature = "dpop")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dpop")))]
    pub fn dpop(self, dpop: Dpop) -> Self {
        Self { dpop: Some(dpop), ..self }
    }

    /// Where client certificates are found (RFC 8705). Default: nowhere, and tokens that are bound to
    /// one are 401.
    pub fn client_certificates(mut self, certificates: ClientCertificates) -> Self {
        self.options.certificates = Some(certificates);
        self
    }

    /// Has message signatures (RFC 9421) of requests verified and of responses made. Default: off.
    pub fn message_signatures(mut self, signatures: MessageSignatures) -> Self {
        self.options.signatures = Some(signatures);
        self
    }

    /// What protects this server, for clients to find out (RFC 9728): challenges tell where its metadata
    /// is. It does not serve them, nor does it demand that tokens are for this resource: see
    /// [`ProtectedResource`] for both.
    pub fn protected_resource(mut self, resource: &ProtectedResource) -> Self {
        self.options.challenges.resource_metadata = Some(resource.metadata_url());
        self
    }

    /// Keeps tokens alive that are in use. Default: off.
    pub fn refresh(self, refresh: Refresh) -> Self {
        Self { refresh: Some(refresh), ..self }
    }

    /// Gives tokens in use new values from time to time. Default: off.
    pub fn rotate(self, rotation: Rotation) -> Self {
        Self { rotation: Some(rotation), ..self }
    }

    /// How long a check may take in all: queueing, connecting, retries and waiting for another's call.
    /// After that it is 503. Default: 3 s; at most a day. A single call ends by the deadline of
    /// [`AuthleteBuilder`](crate::AuthleteBuilder), too.
    pub fn check_deadline(mut self, deadline: Duration) -> Self {
        self.resilience.deadline = deadline;
        self
    }

    /// How often a check that failed is made again, if the connection broke or Authlete answered 429,
    /// 502, 503 or 504: after a random part of `backoff`, doubled each time, or when Authlete says.
    /// Retries are limited to a fifth of the calls that succeed and one a second, so that they do not
    /// multiply an outage. A call with a DPoP proof is made again only if it was never sent. Default:
    /// once, 100 ms.
    pub fn retries(mut self, retries: u32, backoff: Duration) -> Self {
        self.resilience.retries = retries;
        self.resilience.backoff = backoff;
        self
    }

    /// After how many failed calls in a row checks are 503 at once instead of calling, and for how long:
    /// a random point in the second half of `pause`, doubled each time, at most 30 s. Then one call at a
    /// time finds out whether Authlete answers again, and the first answer ends it. A call that failed
    /// got no connection, no answer in time, 429 or 5xx, after its [retries](Self::retries); an answer
    /// about a token, good or bad, is none, nor is a call whose turn came late here, and what is 30 s ago
    /// does not count. What is cached serves on, and so does what
    /// [`stale_on_error`](Self::stale_on_error) allows.
    ///
    /// A call that Authlete refuses because of this server's own credentials (401, or 403 in Authlete's
    /// words) has failed as well, so that wrong credentials make 5 calls and then one for each pause.
    /// Meanwhile checks are 500 instead of 503, and nothing out of date is used.
    ///
    /// Pauses go by the layer's [`clock`](Self::clock). Zero failures turn it off. Default: 5, 1 s; at most
    /// 30 s.
    pub fn breaker(mut self, failures: u32, pause: Duration) -> Self {
        self.resilience.failures = failures;
        if failures > 0 {
            self.resilience.pause = pause;
        }
        self
    }

    /// For how long after its `max_age` a good answer may still be used while Authlete cannot be asked:
    /// never past the token's expiry, never for a token that was forgotten or revoked here, and never
    /// after an answer that said no. It is asked for again as soon as it can be, and
    /// [`TokenInfo::is_stale`](crate::TokenInfo::is_stale) tells. A token that was revoked elsewhere lives
    /// on for so much longer. For a route, see [`AuthLayer::stale_on_error`]. Default: 0; at most a day.
    pub fn stale_on_error(mut self, up_to: Duration) -> Self {
        self.limits.stale = up_to;
        self
    }

    /// Asks again about tokens in use that long before their `max_age` ends, in the background (at a
    /// point of its own in the second half of it), so that steady traffic never waits. Zero turns it off.
    /// It is less than `max_age`.
    /// Default: a tenth of it.
    pub fn refresh_ahead(mut self, ahead: Duration) -> Self {
        self.limits.ahead = Some(ahead);
        self
    }

    /// What the service's tokens look like: tokens that look different are refused without asking
    /// anybody. What is given one after another must all fit. Default: any token.
    ///
    /// ```
    /// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
    /// let auth = tower_authlete::AuthLayer::builder(authlete)
    ///     .precheck(|token: &str| token.len() == 43)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn precheck(mut self, precheck: impl Into<Precheck>) -> Self {
        let precheck = precheck.into();
        self.options.precheck = Some(match self.options.precheck.take() {
            Some(before) => before.and(precheck),
            None => precheck,
        });
        self
    }

    /// How many checks call Authlete at a time. Default: 256; at least 1.
    pub fn max_in_flight(mut self, max_in_flight: usize) -> Self {
        self.resilience.max_in_flight = max_in_flight;
        self
    }

    /// How many further calls can wait for their turn; beyond that, it is 503 at once. Default: 1024.
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.resilience.max_waiting = max_waiting;
        self
    }

    /// The clock by which expiry and ages are judged. Ages of what is known also go by a clock that is
    /// never set back. Default: the system's.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The layer.
    ///
    /// # Errors
    /// If a setting is wrong: an age of more than a day, no room for any entry, a token length of
    /// zero, a realm that cannot stand in a header, an origin that is none, or settings that do not go
    /// together.
    pub fn build(mut self) -> Result<AuthLayer<R>, ConfigError> {
        self.validate()?;
        if let Some(certificates) = &mut self.options.certificates {
            certificates.validate()?;
        }
        if let Some(signatures) = &mut self.options.signatures {
            signatures.validate()?;
        }
        #[cfg(feature = "dpop")]
        if let Some(dpop) = self.dpop.take() {
            let prover = dpop.build()?;
            self.options.challenges.algorithms = Some(prover.algorithms());
            self.options.challenges.only_dpop = prover.settings.required;
            self.options.dpop = Some(Arc::new(prover));
        }
        Ok(self.finish())
    }

    fn validate(&self) -> Result<(), ConfigError> {
        #[cfg(feature = "dpop")]
        if self.dpop.is_some() && self.check == Check::Update {
            let remedy = "check by Check::Introspection: an update does not verify proofs";
            return Err(ConfigError::new("dpop", "together with Check::Update", remedy));
        }
        if self.check == Check::Update && self.options.signatures.is_some() {
            let remedy = "check by Check::Introspection: an update does not verify signatures";
            return Err(ConfigError::new(
                "message_signatures",
                "together with Check::Update",
                remedy,
            ));
        }
        if let Some(refresh) = &self.refresh {
            refresh.validate()?;
        }
        if let Some(rotation) = &self.rotation {
            rotation.validate()?;
            if self.options.precheck.as_ref().is_some_and(Precheck::takes_only_jwts) {
                let remedy = "leave out one of both: the new values of tokens are no JWTs";
                return Err(ConfigError::new("rotate", "together with a precheck of JWTs", remedy));
            }
        }
        self.resilience.validate()?;
        let limits = &self.limits;
        for (setting, age) in [
            ("max_age", limits.max_age),
            ("negative_max_age", limits.negative_max_age),
            ("stale_on_error", limits.stale),
        ] {
            if age > DAY {
                let remedy = "give at most a day: it is how long a revoked token can live on";
                return Err(ConfigError::new(setting, format!("{} s", age.as_secs()), remedy));
            }
        }
        if !limits.stale.is_zero() && limits.max_age.is_zero() {
            let problem = format!("{} ms without a cache", limits.stale.as_millis());
            let remedy = "give a max_age, since it is for answers that are kept";
            return Err(ConfigError::new("stale_on_error", problem, remedy));
        }
        if let Some(ahead) = limits.ahead.filter(|it| !it.is_zero() && *it >= limits.max_age) {
            let problem = format!("{} ms", ahead.as_millis());
            return Err(ConfigError::new("refresh_ahead", problem, "give less than max_age"));
        }
        for (setting, entries) in [
            ("max_entries", limits.max_entries),
            ("negative_max_entries", limits.negative_max_entries),
        ] {
            if entries == 0 {
                let remedy = "give at least 1, or turn the cache off with an age of zero";
                return Err(ConfigError::new(setting, "0", remedy));
            }
        }
        if self.options.max_token_length == 0 {
            let remedy = "give the length in bytes of the longest token that you accept";
            return Err(ConfigError::new("max_token_length", "0", remedy));
        }
        match &self.options.challenges.realm {
            Some(realm) if !is_text(realm) => {
                let problem = format!("{} bytes, not all of them visible ASCII", realm.len());
                let remedy = "use letters, digits, spaces and punctuation only";
                Err(ConfigError::new("realm", problem, remedy))
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> AuthLayer<R> {
        let Self { authlete, check, clock, limits, refresh, rotation, resilience, .. } = self;
        let freshness = Freshness { fresh: false, stale: limits.stale };
        let api = match check {
            Check::Introspection => "introspection",
            Check::Update => "update",
        };
        let keys = |kind| KeySpace::new(&authlete.identity(), api, kind);
        let epochs = Arc::new(Epochs::new());
        let log = LogLimit::new(&clock);
        // Calls outlive clients that go away.
        let max_calls = resilience.max_in_flight.saturating_add(resilience.max_waiting);
        let store =
            TokenStore::new(keys("access"), clock.clone(), limits, epochs.clone(), max_calls);
        let store = Arc::new(store);
        let guard = Refuser::new(self.options.challenges.clone(), clock.clone(), epochs);
        let (deadline, extends, refresh_keys) =
            (resilience.deadline, refresh.is_some(), keys("refresh"));
        let introspector =
            Introspector::new(authlete, check, resilience, guard.clone(), log.clone());
        let introspector = Arc::new(introspector);
        let parts = Parts {
            store: store.clone(),
            remote: introspector.clone(),
            lineages: Lineages::new(refresh.as_ref()),
            clock: clock.clone(),
            log: log.clone(),
            guard: guard.clone(),
            deadline,
        };
        let lifecycle = Lifecycle::new(parts, refresh_keys, refresh, rotation);
        let verifier = Verifier {
            store,
            remote: introspector.clone(),
            clock,
            log,
            guard,
            deadline,
            precheck: self.options.precheck.clone().filter(Precheck::looks_closer),
            extends,
        };
        let settings = Settings {
            verifier: Arc::new(verifier),
            introspector,
            lifecycle: Arc::new(lifecycle),
            options: self.options,
            renderer: Arc::new(self.renderer),
        };
        AuthLayer { settings: Arc::new(settings), freshness }
    }
}

impl<R> fmt::Debug for AuthLayerBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayerBuilder")
            .field("check", &self.check)
            .field("limits", &self.limits)
            .field("optional", &self.options.optional)
            .field("require", &self.options.require)
            .field("realm", &self.options.challenges.realm)
            .finish_non_exhaustive()
    }
}
