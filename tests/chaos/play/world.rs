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
    pace::Pace,
    processes::{PROCESSES, Process, Shared},
    settings::Settings,
};

/// How many layers there are.
const SITES: usize = 6;

/// How long tokens live that are issued by endpoints (s).
pub(crate) const LIFE: u32 = 100;

/// How many calls a narrow transport lets pass beside checks and endpoints.
const OTHERS: usize = 8;

pub(crate) struct World {
    pub(crate) authlete: Emulator,
    /// A client of somebody else's.
    pub(crate) elsewhere: Authlete,
    /// Tells the true time, by which Authlete goes.
    pub(crate) clock: Clock,
    pub(crate) pace: Pace,
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
    /// The same, asking about every request.
    pub(crate) fresh: Router,
    /// The layer around itself without a cache.
    pub(crate) nested: Router,
    /// The same, with half of what may be out of date in an outage.
    pub(crate) strict: Router,
    /// The layer's token endpoint and revocation endpoint.
    pub(crate) endpoints: Router,
    pub(crate) handle: AuthHandle,
    pub(crate) clock: SiteClock,
    pub(crate) bounds: Bounds,
    pub(crate) calls: Arc<Calls>,
    /// When a call of it was surely answered last.
    pub(crate) answered: Order,
}

impl World {
    pub(crate) async fn new(pace: Pace, rng: &mut StdRng, log: &Log) -> Self {
        let clock = clock(pace);
        let version = if rng.random_bool(0.5) { ApiVersion::V3 } else { ApiVersion::V2 };
        let authlete = Emulator::builder()
            .clock(clock.clone())
            .api_version(version)
            .access_token_duration(pace.seconds(LIFE))
            .access_token(format!("{SECRET}-of-the-service"))
            .start()
            .await
            .unwrap();
        // Where tokens are extended or get new values, they seldom expire.
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
            let (site, client, layer) = Site::new(&authlete, pace, settings);
            if number < PROCESSES {
                let clock = site.clock.clock.clone();
                processes.push(Process::new(&authlete, client, (layer, clock), &store, pace));
            }
            sites.push(site);
        }
        let keys = (0..HOLDERS).map(|_| Key::es256()).collect();
        let elsewhere = authlete.authlete();
        Self { elsewhere, authlete, clock, pace, sites, store, processes, keys }
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, by: Duration) {
        if self.pace.frozen {
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
    fn new(authlete: &Emulator, pace: Pace, settings: Settings) -> (Self, Authlete, AuthLayer) {
        let (calls, clock) = (Arc::<Calls>::default(), SiteClock::new(clock(pace)));
        let room = settings.limit + 2 * SHARE + OTHERS;
        let client = client(authlete, pace, calls.clone(), room);
        let layer = AuthLayer::builder(client.clone()).clock(clock.clock.clone());
        let layer = settings.apply(layer, pace).build().unwrap();
        let age = pace.seconds(settings.age);
        let age = if age.is_zero() { age } else { age + pace.lag() };
        let site = Self {
            settings,
            router: routes().layer(layer.clone()),
            fresh: routes().layer(layer.no_cache()),
            nested: routes().layer(layer.no_cache()).layer(layer.clone()),
            strict: routes().layer(layer.stale_on_error(pace.seconds(settings.stale) / 2)),
            endpoints: endpoints(&client, &layer.handle(), pace),
            handle: layer.handle(),
            clock,
            bounds: Bounds {
                age,
                stale: pace.seconds(settings.stale),
                breaks: settings.breaker > 0,
                overlap: pace.seconds(settings.rotates.unwrap_or_default()),
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
        // They are made in whole seconds, and may have to wait for a while.
        !self.clock.is_right() || self.clock.set_back() + Duration::from_secs(5) >= window
    }

    /// How many checks may be under way at a time, of those that can be told from other calls.
    pub(crate) fn limit(&self) -> usize {
        self.settings.limit
    }
}

fn clock(pace: Pace) -> Clock {
    match pace.frozen {
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
