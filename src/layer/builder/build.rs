//! Validation of the settings, and the layer that they make.

use std::sync::Arc;

use super::{super::auth::AuthLayer, AuthLayerBuilder};
#[cfg(feature = "redis")]
use crate::fleet::{FleetLayer, Seat};
use crate::{
    api::{ConfigError, Problems},
    introspect::{CheckApi, Introspector},
    lifecycle::{Lifecycle, LifecycleParts, Lineages},
    observe::LogLimit,
    precheck::Precheck,
    rejection::{Refuser, challenge::is_text},
    request::{Settings, Variant},
    store::{KeySpace, TokenStore, epoch::Epochs},
    verify::{Freshness, Verifier},
};

impl<R> AuthLayerBuilder<R> {
    /// Builds the layer.
    ///
    /// # Errors
    /// If settings are wrong or exclude each other: an age of more than a day, no room for entries, a token length
    /// of zero, a realm that is no legal header value, a malformed origin. The error names all of them.
    pub fn build(mut self) -> Result<AuthLayer<R>, ConfigError> {
        Problems::of(|problems| self.validate(problems))?;
        #[cfg(feature = "dpop")]
        if let Some(dpop) = self.dpop.take() {
            let prover = dpop.build();
            self.options.challenges.algorithms = Some(prover.algorithms());
            self.options.challenges.only_dpop = prover.settings.required;
            self.options.proofs.dpop = Some(Arc::new(prover));
        }
        Ok(self.finish())
    }

    fn validate(&mut self, problems: &mut Problems) {
        self.cache.validate(problems);
        self.resilience.validate(problems);
        self.validate_lifecycle(problems);
        self.validate_proofs(problems);
        if self.options.max_token_length == 0 {
            let remedy = "give the length in bytes of the longest token that you accept";
            problems.add("max_token_length", "0", remedy);
        }
        if let Some(realm) = self.options.challenges.realm.as_ref().filter(|it| !is_text(it)) {
            let problem = format!("{} bytes, not all of them visible ASCII", realm.len());
            problems.add("realm", problem, "use letters, digits, spaces and punctuation only");
        }
    }

    fn validate_lifecycle(&self, problems: &mut Problems) {
        if let Some(extension) = &self.extension {
            extension.validate(problems);
        }
        let Some(rotation) = &self.rotation else { return };
        rotation.validate(problems);
        if self.options.precheck.as_ref().is_some_and(Precheck::takes_only_jwts) {
            let remedy = "leave out one of both: the new values of tokens are no JWTs";
            problems.add("rotate", "together with a precheck of JWTs", remedy);
        }
    }

    fn validate_proofs(&mut self, problems: &mut Problems) {
        // `/auth/token/update` verifies neither proofs nor signatures.
        let by_update = self.check == CheckApi::Update;
        let problem = "together with CheckApi::Update";
        #[cfg(feature = "dpop")]
        if let Some(dpop) = &mut self.dpop {
            dpop.validate(problems);
            if by_update {
                let remedy = "check by CheckApi::Introspection: an update does not verify proofs";
                problems.add("dpop", problem, remedy);
            }
        }
        if let Some(signatures) = &mut self.options.proofs.signatures {
            signatures.validate(problems);
            if by_update {
                let remedy =
                    "check by CheckApi::Introspection: an update does not verify signatures";
                problems.add("message_signatures", problem, remedy);
            }
        }
        if let Some(certificates) = &mut self.options.proofs.certificates {
            certificates.validate(problems);
        }
    }

    /// Builds without validation.
    pub(super) fn finish(self) -> AuthLayer<R> {
        let Self { authlete, check, clock, cache, extension, rotation, resilience, .. } = self;
        let freshness = Freshness { fresh: false, stale: cache.stale_if_error };
        let variant = Variant { freshness, optional: self.optional };
        let keys = |kind| KeySpace::new(&authlete.service(), kind);
        let epochs = Arc::new(Epochs::new());
        let log = LogLimit::new(&clock);
        // Calls outlive clients that go away.
        let max_calls = resilience.max_in_flight.saturating_add(resilience.max_waiting);
        let refuser = Refuser::new(self.options.challenges.clone(), clock.clone(), epochs.clone());
        #[cfg(feature = "redis")]
        let seat = self.fleet.map(|fleet| {
            let (service, clock, refuser) = (authlete.service(), clock.clone(), refuser.clone());
            fleet.seat(FleetLayer { service, check: check.path(), clock, refuser })
        });
        #[cfg(feature = "redis")]
        let shared = seat.as_ref().map(Seat::tier);
        #[cfg(not(feature = "redis"))]
        let shared = None;
        let store =
            TokenStore::new(keys("access"), clock.clone(), cache, epochs, max_calls, shared);
        let store = Arc::new(store);
        #[cfg(feature = "redis")]
        if let Some(seat) = seat {
            seat.start(&store);
        }
        let (deadline, extends, refresh_keys) =
            (resilience.deadline, extension.is_some(), keys("refresh"));
        let introspector =
            Introspector::new(authlete, check, resilience, refuser.clone(), log.clone());
        let introspector = Arc::new(introspector);
        let parts = LifecycleParts {
            store: store.clone(),
            remote: introspector.clone(),
            lineages: Lineages::new(extension.as_ref()),
            clock: clock.clone(),
            log: log.clone(),
            refuser: refuser.clone(),
            deadline,
        };
        let lifecycle = Lifecycle::new(parts, refresh_keys, extension, rotation);
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
