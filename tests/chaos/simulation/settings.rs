//! Settings of a layer, determined by the seed.

use std::time::Duration;

use http::HeaderName;
use rand::{RngExt, rngs::StdRng};
use tower_authlete::{
    AuthLayerBuilder, CachePolicy, Check, ClientCertificates, Dpop, Refresh, RequireScopes,
    Rotation,
    resilience::{Breaker, Resilience, Retry},
};

use super::{
    holders::{Bound, ORIGIN, Shown},
    model::SCOPES,
    time_scale::TimeScale,
};

/// The header with a token's new value.
pub(crate) const NEW_TOKEN: HeaderName = HeaderName::from_static("x-new-token");

/// The life of tokens that are extended (s).
pub(crate) const LIFE: u32 = 120;

/// Times are in seconds of the [`TimeScale`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) age: u32,
    negative: u32,
    pub(crate) stale: u32,
    /// None: the default.
    ahead: Option<u32>,
    /// Whether tokens are extended, and whether requests wait for it.
    pub(crate) extends: Option<bool>,
    /// Whether tokens get new values, and for how long the old ones are still accepted.
    pub(crate) rotates: Option<u32>,
    /// How long a value is used, where tokens get new ones.
    pub(crate) every: u32,
    /// How many calls there may be at a time.
    pub(crate) limit: usize,
    pub(crate) retries: u32,
    backoff: Duration,
    /// After how many consecutive failures the breaker opens; 0: never.
    pub(crate) breaker: u32,
    pub(crate) by_update: bool,
    pub(crate) dpop: bool,
    pub(crate) certificates: bool,
    pub(crate) optional: bool,
    /// How long tokens live at most that are extended.
    pub(crate) never_beyond: u32,
    /// The scope that all requests take, by its place in [`SCOPES`].
    pub(crate) requires: Option<usize>,
    /// For how long a proof is good, before and after it was made (s).
    pub(crate) window: u32,
    /// Whether the clock of the layer is set back and forth.
    pub(crate) steps: bool,
}

impl Settings {
    pub(crate) fn choose(rng: &mut StdRng) -> Self {
        let mut one_of = |values: &[u32]| values[rng.random_range(0..values.len())];
        let age = one_of(&[0, 10, 30, 60, 60, 60]);
        let by_update = one_of(&[0, 0, 0, 0, 1]) == 1;
        Self {
            age,
            negative: if age == 0 { 0 } else { one_of(&[0, 10]) },
            stale: if age == 0 { 0 } else { one_of(&[0, 0, 60, 120]) },
            ahead: [None, Some(0), Some(age / 3)][one_of(&[0, 1, 2]) as usize],
            extends: [None, None, Some(false), Some(true)][one_of(&[0, 1, 2, 3]) as usize],
            rotates: match one_of(&[0, 0, 0, 1, 2]) {
                0 => None,
                2 if age >= 30 => Some(10),
                _ => Some(0),
            },
            every: one_of(&[20, 60, 60]),
            limit: one_of(&[2, 3, 256]) as usize,
            retries: one_of(&[0, 0, 1, 2]),
            backoff: Duration::from_millis(one_of(&[0, 50]).into()),
            breaker: one_of(&[0, 0, 1, 3, 5]),
            by_update,
            dpop: !by_update && one_of(&[0, 1]) == 1,
            certificates: one_of(&[0, 1]) == 1,
            optional: one_of(&[0, 0, 1]) == 1,
            never_beyond: one_of(&[LIFE, LIFE + 80, 12 * 60 * 60]),
            requires: [None, Some(0), Some(1)][one_of(&[0, 0, 0, 0, 1, 2]) as usize],
            window: one_of(&[10, 60, 60]),
            steps: one_of(&[0, 1]) == 1,
        }
    }

    /// The same for a layer inside of one for sessions.
    pub(crate) fn for_sessions(self, rng: &mut StdRng, right: bool) -> Self {
        let overlap = if self.age >= 30 && rng.random_bool(0.5) { 10 } else { 0 };
        let rotates = rng.random_bool(0.8).then_some(overlap);
        Self { rotates, every: 20, steps: self.steps && !right, ..self }
    }

    /// Whether these proofs admit a token with this binding.
    pub(crate) fn admits(&self, shown: Shown, bound: Bound) -> bool {
        match bound {
            Bound::Nobody => shown.key.is_none(),
            Bound::Key(key) => self.dpop && shown.key == Some(key),
            // An update cannot tell that there is a certificate (documented).
            Bound::Certificate(_) if self.by_update => shown.key.is_none(),
            Bound::Certificate(certificate) => {
                self.certificates && shown.key.is_none() && shown.certificate == Some(certificate)
            }
        }
    }

    fn cache(&self, time_scale: TimeScale) -> CachePolicy {
        let cache = CachePolicy::new()
            .max_age(time_scale.seconds(self.age))
            .negative_max_age(time_scale.seconds(self.negative))
            .stale_if_error(time_scale.seconds(self.stale));
        match self.ahead {
            Some(ahead) => cache.revalidate_before(time_scale.seconds(ahead)),
            None => cache,
        }
    }

    fn resilience(&self, time_scale: TimeScale) -> Resilience {
        let breaker = match self.breaker {
            0 => Breaker::disabled(),
            failures => Breaker::after(failures).pause(time_scale.second),
        };
        Resilience::new()
            .deadline(time_scale.deadline)
            .max_in_flight(self.limit)
            .retry(Retry::times(self.retries).backoff(self.backoff))
            .breaker(breaker)
    }

    pub(crate) fn apply(&self, layer: AuthLayerBuilder, time_scale: TimeScale) -> AuthLayerBuilder {
        let mut layer = layer.cache(self.cache(time_scale)).resilience(self.resilience(time_scale));
        if let Some(waits) = self.extends {
            let refresh =
                Refresh::extend().when_below(time_scale.seconds(60)).to(time_scale.seconds(LIFE));
            let refresh = refresh.never_beyond(time_scale.seconds(self.never_beyond));
            layer = layer.refresh(if waits { refresh.wait() } else { refresh });
        }
        if let Some(overlap) = self.rotates {
            let rotation = Rotation::in_header(NEW_TOKEN).every(time_scale.seconds(self.every));
            layer = layer.rotate(rotation.overlap(time_scale.seconds(overlap)));
        }
        if self.by_update {
            layer = layer.check(Check::Update);
        }
        if self.dpop {
            let window = Duration::from_secs(self.window.into());
            layer = layer.dpop(Dpop::at(ORIGIN).window(window));
        }
        if self.certificates {
            layer = layer.client_certificates(ClientCertificates::from_connection());
        }
        if let Some(scope) = self.requires {
            layer = layer.require(RequireScopes::all([SCOPES[scope]]));
        }
        if self.optional { layer.optional() } else { layer }
    }
}
