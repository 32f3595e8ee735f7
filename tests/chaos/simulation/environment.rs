//! An emulator, and layers of several settings in front of it.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use axum::{Router, routing::get};
use rand::{RngExt, rngs::StdRng};
use tower_authlete::{
    AuthHandle, AuthLayer, Authlete, Clock, RequireScopes, TokenInfo, api::ApiVersion,
    emulator::Emulator,
};

use super::{
    calls::{Calls, client},
    clocks::SiteClock,
    endpoints::{SHARE, endpoints},
    holders::{HOLDERS, Key},
    log::{Log, SECRET},
    model::{Bounds, Order, SCOPES},
    processes::{PROCESSES, Process, Shared},
    settings::Settings,
    time_scale::TimeScale,
};

/// How many layers there are.
const SITES: usize = 6;

/// How long tokens live that are issued by endpoints (s).
pub(crate) const LIFE: u32 = 100;

/// How many calls a limited transport allows beside those of checks and endpoints.
const OTHERS: usize = 8;

pub(crate) struct Environment {
    pub(crate) authlete: Emulator,
    /// A client of another server.
    pub(crate) elsewhere: Authlete,
    /// The true time, which Authlete uses.
    pub(crate) clock: Clock,
    pub(crate) time_scale: TimeScale,
    pub(crate) sites: Vec<Site>,
    /// What sessions share, and the first layers inside of layers for them.
    pub(crate) store: Arc<Shared>,
    pub(crate) processes: Vec<Process>,
    pub(crate) keys: Vec<Key>,
}

/// An API behind a layer.
pub(crate) struct Site {
    pub(crate) settings: Settings,
    pub(crate) router: Router,
    /// The layer without a cache.
    pub(crate) fresh: Router,
    /// The layer around itself without a cache.
    pub(crate) nested: Router,
    /// The layer with half of its `stale_if_error`.
    pub(crate) strict: Router,
    /// The layer's token endpoint and revocation endpoint.
    pub(crate) endpoints: Router,
    pub(crate) handle: AuthHandle,
    pub(crate) clock: SiteClock,
    pub(crate) bounds: Bounds,
    pub(crate) calls: Arc<Calls>,
    /// The last time at which a call of it was certainly answered.
    pub(crate) answered: Order,
}

impl Environment {
    pub(crate) async fn new(time_scale: TimeScale, rng: &mut StdRng, log: &Log) -> Self {
        let clock = clock(time_scale);
        let version = if rng.random_bool(0.5) { ApiVersion::V3 } else { ApiVersion::V2 };
        let authlete = Emulator::builder()
            .clock(clock.clone())
            .api_version(version)
            .access_token_duration(time_scale.seconds(LIFE))
            .access_token(format!("{SECRET}-of-the-service"))
            .start()
            .await
            .unwrap();
        // Extended and rotated tokens seldom expire.
        let (extends, rotates) = (rng.random_bool(0.5), rng.random_bool(0.5));
        let right = rng.random_bool(0.7);
        let store = Arc::new(Shared::new(rng, log.clone()));
        let (mut sites, mut processes) = (Vec::new(), Vec::new());
        for number in 0..SITES {
            let mut settings = Settings::choose(rng);
            settings.extends = settings.extends.filter(|_| extends);
            settings.rotates = settings.rotates.filter(|_| rotates);
            if number < PROCESSES {
                settings = settings.for_sessions(rng, right);
            }
            let (site, client, layer) = Site::new(&authlete, time_scale, settings);
            if number < PROCESSES {
                let clock = site.clock.clock.clone();
                processes.push(Process::new(&authlete, client, (layer, clock), &store, time_scale));
            }
            sites.push(site);
        }
        let keys = (0..HOLDERS).map(|_| Key::es256()).collect();
        let elsewhere = authlete.authlete();
        Self { elsewhere, authlete, clock, time_scale, sites, store, processes, keys }
    }

    /// Advances the time.
    pub(crate) async fn pass(&self, by: Duration) {
        if self.time_scale.frozen {
            let clocks = self.sites.iter().map(|site| &site.clock.clock);
            clocks.chain([&self.clock]).for_each(|clock| clock.advance(by));
            tokio::time::advance(by).await;
        } else {
            tokio::time::sleep(by).await;
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.store.is_busy() || self.sites.iter().any(|site| site.calls.under_way() > 0)
    }
}

impl Site {
    fn new(
        authlete: &Emulator,
        time_scale: TimeScale,
        settings: Settings,
    ) -> (Self, Authlete, AuthLayer) {
        let (calls, clock) = (Arc::<Calls>::default(), SiteClock::new(clock(time_scale)));
        let room = settings.limit + 2 * SHARE + OTHERS;
        let client = client(authlete, time_scale, calls.clone(), room);
        let layer = AuthLayer::builder(client.clone()).clock(clock.clock.clone());
        let layer = settings.apply(layer, time_scale).build().unwrap();
        let age = time_scale.seconds(settings.age);
        let age = if age.is_zero() { age } else { age + time_scale.lag() };
        let site = Self {
            settings,
            router: routes().layer(layer.clone()),
            fresh: routes().layer(layer.bypass_cache()),
            nested: routes().layer(layer.bypass_cache()).layer(layer.clone()),
            strict: routes().layer(layer.stale_if_error(time_scale.seconds(settings.stale) / 2)),
            endpoints: endpoints(&client, &layer.handle(), time_scale),
            handle: layer.handle(),
            clock,
            bounds: Bounds {
                age,
                stale: time_scale.seconds(settings.stale),
                breaks: settings.breaker > 0,
                overlap: time_scale.seconds(settings.rotates.unwrap_or_default()),
            },
            calls,
            answered: 0,
        };
        (site, client, layer)
    }

    /// Whether proofs that are new may be too old by the latest time that the clock has shown, or too
    /// far from Authlete's time.
    pub(crate) fn doubts_proofs(&self) -> bool {
        let window = Duration::from_secs(self.settings.window.into());
        // Their `iat` is in whole seconds, and they may wait before they are sent.
        !self.clock.is_right() || self.clock.set_back() + Duration::from_secs(5) >= window
    }

    /// How many checks may be in flight at a time, of those that differ from other calls.
    pub(crate) fn limit(&self) -> usize {
        self.settings.limit
    }
}

fn clock(time_scale: TimeScale) -> Clock {
    match time_scale.frozen {
        true => Clock::frozen(UNIX_EPOCH + Duration::from_secs(2_000_000_000)),
        false => Clock::system(),
    }
}

pub(super) fn routes() -> Router {
    SCOPES.iter().fold(Router::new().route("/", get(subject)), |router, scope| {
        let guarded = get(subject).route_layer(RequireScopes::all([*scope]));
        router.route(&format!("/{scope}"), guarded)
    })
}

async fn subject(token: Option<TokenInfo>) -> String {
    token.as_ref().and_then(TokenInfo::subject).unwrap_or("nobody").to_owned()
}
