//! Validation of the settings, and the layer that they make.

use std::sync::Arc;

use super::{super::auth::AuthLayer, AuthLayerBuilder};
use crate::{
    api::ConfigError,
    clock::DAY,
    introspect::{Check, Introspector},
    lifecycle::{Lifecycle, LifecycleParts, Lineages},
    observe::LogLimit,
    precheck::Precheck,
    rejection::{Refuser, challenge::is_text},
    request::{Settings, Variant},
    store::{KeySpace, Limits, TokenStore, epoch::Epochs},
    verify::{Freshness, Verifier},
};

impl<R> AuthLayerBuilder<R> {
    /// Builds the layer.
    ///
    /// # Errors
    /// If a setting is wrong: an age of more than a day, no room for entries, a token length of zero, a realm
    /// that is no legal header value, a malformed origin, or settings that exclude each other.
    pub fn build(mut self) -> Result<AuthLayer<R>, ConfigError> {
        self.validate()?;
        if let Some(certificates) = &mut self.options.proofs.certificates {
            certificates.validate()?;
        }
        if let Some(signatures) = &mut self.options.proofs.signatures {
            signatures.validate()?;
        }
        #[cfg(feature = "dpop")]
        if let Some(dpop) = self.dpop.take() {
            let prover = dpop.build()?;
            self.options.challenges.algorithms = Some(prover.algorithms());
            self.options.challenges.only_dpop = prover.settings.required;
            self.options.proofs.dpop = Some(Arc::new(prover));
        }
        Ok(self.finish())
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate_check()?;
        self.validate_lifecycle()?;
        self.resilience.validate()?;
        validate_limits(&self.limits)?;
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

    /// `/auth/token/update` verifies neither proofs nor signatures.
    fn validate_check(&self) -> Result<(), ConfigError> {
        if self.check != Check::Update {
            return Ok(());
        }
        let problem = "together with Check::Update";
        #[cfg(feature = "dpop")]
        if self.dpop.is_some() {
            let remedy = "check by Check::Introspection: an update does not verify proofs";
            return Err(ConfigError::new("dpop", problem, remedy));
        }
        if self.options.proofs.signatures.is_some() {
            let remedy = "check by Check::Introspection: an update does not verify signatures";
            return Err(ConfigError::new("message_signatures", problem, remedy));
        }
        Ok(())
    }

    fn validate_lifecycle(&self) -> Result<(), ConfigError> {
        if let Some(refresh) = &self.refresh {
            refresh.validate()?;
        }
        let Some(rotation) = &self.rotation else { return Ok(()) };
        rotation.validate()?;
        if self.options.precheck.as_ref().is_some_and(Precheck::takes_only_jwts) {
            let remedy = "leave out one of both: the new values of tokens are no JWTs";
            return Err(ConfigError::new("rotate", "together with a precheck of JWTs", remedy));
        }
        Ok(())
    }

    /// Builds without validation.
    pub(super) fn finish(self) -> AuthLayer<R> {
        let Self { authlete, check, clock, limits, refresh, rotation, resilience, .. } = self;
        let freshness = Freshness { fresh: false, stale: limits.stale };
        let variant = Variant { freshness, optional: self.options.optional };
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
        let refuser = Refuser::new(self.options.challenges.clone(), clock.clone(), epochs);
        let (deadline, extends, refresh_keys) =
            (resilience.deadline, refresh.is_some(), keys("refresh"));
        let introspector =
            Introspector::new(authlete, check, resilience, refuser.clone(), log.clone());
        let introspector = Arc::new(introspector);
        let parts = LifecycleParts {
            store: store.clone(),
            remote: introspector.clone(),
            lineages: Lineages::new(refresh.as_ref()),
            clock: clock.clone(),
            log: log.clone(),
            refuser: refuser.clone(),
            deadline,
        };
        let lifecycle = Lifecycle::new(parts, refresh_keys, refresh, rotation);
        let verifier = Verifier {
            store,
            remote: introspector.clone(),
            clock,
            log,
            refuser,
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
        AuthLayer { settings: Arc::new(settings), variant }
    }
}

fn validate_limits(limits: &Limits) -> Result<(), ConfigError> {
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
    for (setting, entries) in
        [("max_entries", limits.max_entries), ("negative_max_entries", limits.negative_max_entries)]
    {
        if entries == 0 {
            let remedy = "give at least 1, or turn the cache off with an age of zero";
            return Err(ConfigError::new(setting, "0", remedy));
        }
    }
    Ok(())
}
