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
    holders::{HOLDERS, Key},
    log::SECRET,
    model::{Bounds, Order, SCOPES},
    pace::Pace,
    settings::Settings,
};

/// How many layers there are.
const SITES: usize = 6;

pub(crate) struct World {
    pub(crate) authlete: Emulator,
    /// A client of somebody else's.
    pub(crate) elsewhere: Authlete,
    pub(crate) clock: Clock,
    pub(crate) pace: Pace,
    pub(crate) sites: Vec<Site>,
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
    pub(crate) handle: AuthHandle,
    pub(crate) bounds: Bounds,
    pub(crate) calls: Arc<Calls>,
    /// When a call of it was surely answered last.
    pub(crate) answered: Order,
}

impl World {
    pub(crate) async fn new(pace: Pace, rng: &mut StdRng) -> Self {
        let clock = match pace.frozen {
            true => Clock::frozen(UNIX_EPOCH + Duration::from_secs(2_000_000_000)),
            false => Clock::system(),
        };
        let version = if rng.random_bool(0.5) { ApiVersion::V3 } else { ApiVersion::V2 };
        let authlete = Emulator::builder()
            .clock(clock.clone())
            .api_version(version)
            .access_token(format!("{SECRET}-of-the-service"))
            .start()
            .await
            .unwrap();
        // Where tokens are extended or get new values, they seldom expire.
        let (extends, rotates) = (rng.random_bool(0.5), rng.random_bool(0.5));
        let sites = (0..SITES).map(|_| {
            let mut settings = Settings::choose(rng);
            settings.extends = settings.extends.filter(|_| extends);
            settings.rotates = settings.rotates.filter(|_| rotates);
            Site::new(&authlete, pace, settings)
        });
        let sites = sites.collect();
        let keys = (0..HOLDERS).map(|_| Key::es256()).collect();
        Self { elsewhere: authlete.authlete(), authlete, clock, pace, sites, keys }
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, by: Duration) {
        if self.pace.frozen {
            self.clock.advance(by);
            tokio::time::advance(by).await;
        } else {
            tokio::time::sleep(by).await;
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.sites.iter().any(|site| site.calls.under_way() > 0)
    }
}

impl Site {
    fn new(authlete: &Emulator, pace: Pace, settings: Settings) -> Self {
        let calls = Arc::<Calls>::default();
        let layer = AuthLayer::builder(client(authlete, pace, calls.clone()));
        let layer = settings.apply(layer.clock(authlete.clock().clone()), pace).build().unwrap();
        let age = pace.seconds(settings.age);
        let age = if age.is_zero() { age } else { age + pace.lag() };
        Self {
            settings,
            router: routes().layer(layer.clone()),
            fresh: routes().layer(layer.no_cache()),
            nested: routes().layer(layer.no_cache()).layer(layer.clone()),
            strict: routes().layer(layer.stale_on_error(pace.seconds(settings.stale) / 2)),
            handle: layer.handle(),
            bounds: Bounds {
                age,
                stale: pace.seconds(settings.stale),
                breaks: settings.breaker > 0,
            },
            calls,
            answered: 0,
        }
    }

    /// How many checks may be under way at a time, of those that can be told from other calls.
    pub(crate) fn limit(&self) -> usize {
        self.settings.limit
    }
}

fn routes() -> Router {
    SCOPES.iter().fold(Router::new().route("/", get(subject)), |router, scope| {
        let guarded = get(subject).route_layer(RequireScopes::all([*scope]));
        router.route(&format!("/{scope}"), guarded)
    })
}

async fn subject(token: Option<TokenInfo>) -> String {
    token.as_ref().and_then(TokenInfo::subject).unwrap_or("nobody").to_owned()
}
