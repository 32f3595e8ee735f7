//! An emulator, layers of several settings in front of it, and a transport that counts calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use axum::{Router, body::Body, extract::Request, routing::get};
use http::StatusCode;
use http_body_util::BodyExt;
use tower::{ServiceExt, service_fn};
use tower_authlete::{
    AuthHandle, AuthLayer, AuthLayerBuilder, Authlete, Clock, Refresh, RequireScopes, TokenInfo,
    api::{TlsRoots, Transport},
    emulator::{Api, Emulator},
};

use crate::model::Bounds;

/// All secrets begin with it.
pub(crate) const SECRET: &str = "S3CR3T";

/// No check takes longer: it is how much older than its age an answer may be when it is kept.
pub(crate) const CHECK: Duration = Duration::from_secs(3);

/// How time goes by.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// How long a second of the layers' settings is.
    pub(crate) second: Duration,
    /// Whether the clock stands still unless it is moved.
    pub(crate) frozen: bool,
}

impl Pace {
    pub(crate) fn seconds(self, seconds: u32) -> Duration {
        self.second * seconds
    }
}

pub(crate) struct World {
    pub(crate) authlete: Emulator,
    /// A client of somebody else's.
    pub(crate) elsewhere: Authlete,
    pub(crate) clock: Clock,
    pub(crate) sites: Vec<Site>,
}

/// An API behind a layer.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) router: Router,
    /// The same, asking about every request.
    pub(crate) fresh: Router,
    pub(crate) handle: AuthHandle,
    pub(crate) bounds: Bounds,
    pub(crate) extends: bool,
    pub(crate) limit: usize,
    pub(crate) calls: Arc<Calls>,
}

/// The calls of a client that are under way.
#[derive(Default)]
pub(crate) struct Calls {
    all: AtomicUsize,
    checks: AtomicUsize,
    most_checks: AtomicUsize,
}

struct Call(Arc<Calls>, bool);

impl Calls {
    fn begin(self: &Arc<Self>, check: bool) -> Call {
        self.all.fetch_add(1, Ordering::SeqCst);
        if check {
            let checks = self.checks.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_checks.fetch_max(checks, Ordering::SeqCst);
        }
        Call(self.clone(), check)
    }

    pub(crate) fn under_way(&self) -> usize {
        self.all.load(Ordering::SeqCst)
    }

    /// How many checks there were at a time, at most.
    pub(crate) fn most_checks(&self) -> usize {
        self.most_checks.load(Ordering::SeqCst)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.all.fetch_sub(1, Ordering::SeqCst);
        self.0.checks.fetch_sub(usize::from(self.1), Ordering::SeqCst);
    }
}

type Change = fn(AuthLayerBuilder, Pace) -> AuthLayerBuilder;

/// After an outage, a layer with a breaker may take that long to find out that it is over: the longest
/// pause, and the time after which it does not count any more.
const OPEN: Duration = Duration::from_secs(60);

/// `max_age` and `stale_on_error` (s), whether tokens are extended, and the limit of calls.
const SETTINGS: [(&str, u32, u32, bool, usize, Change); 7] = [
    ("default", 60, 0, false, 256, |layer, _| layer),
    ("no_cache", 0, 0, false, 256, |layer, _| layer.no_cache()),
    ("stale_on_error", 60, 120, false, 256, |layer, pace| layer.stale_on_error(pace.seconds(120))),
    ("refresh_ahead", 60, 0, false, 256, |layer, pace| layer.refresh_ahead(pace.seconds(20))),
    ("breaker", 60, 120, false, 256, |layer, pace| {
        layer.stale_on_error(pace.seconds(120)).breaker(3, pace.seconds(1))
    }),
    ("extend", 60, 0, true, 3, |layer, pace| layer.refresh(extend(pace)).max_in_flight(3)),
    ("all", 30, 60, true, 2, |layer, pace| {
        let layer = layer.max_age(pace.seconds(30)).stale_on_error(pace.seconds(60));
        let layer = layer.refresh_ahead(pace.seconds(10)).refresh(extend(pace).wait());
        layer.max_in_flight(2).retries(1, Duration::ZERO)
    }),
];

/// How long tokens live that are extended (s).
pub(crate) const LIFE: u32 = 120;

fn extend(pace: Pace) -> Refresh {
    Refresh::extend().when_below(pace.seconds(60)).to(pace.seconds(LIFE))
}

impl World {
    pub(crate) async fn new(pace: Pace) -> Self {
        let clock = match pace.frozen {
            true => Clock::frozen(UNIX_EPOCH + Duration::from_secs(2_000_000_000)),
            false => Clock::system(),
        };
        let authlete = Emulator::builder()
            .clock(clock.clone())
            .access_token(format!("{SECRET}-of-the-service"))
            .start()
            .await
            .unwrap();
        let sites = SETTINGS
            .into_iter()
            .map(|(name, age, stale, extends, limit, change)| {
                let calls = Arc::<Calls>::default();
                let layer = AuthLayer::builder(client(&authlete, calls.clone()))
                    .clock(clock.clone())
                    .max_age(pace.seconds(60))
                    .negative_max_age(pace.seconds(10))
                    .check_deadline(Duration::from_secs(60))
                    .retries(0, Duration::ZERO)
                    .breaker(0, Duration::ZERO);
                let open = if name == "breaker" { OPEN } else { Duration::ZERO };
                let layer = change(layer, pace).build().unwrap();
                let asked = if age == 0 { Duration::ZERO } else { pace.seconds(age) + CHECK };
                Site {
                    name,
                    router: router(&layer),
                    fresh: router(&layer.no_cache()),
                    handle: layer.handle(),
                    bounds: Bounds { age: asked, stale: pace.seconds(stale), open },
                    extends,
                    limit,
                    calls,
                }
            })
            .collect();
        Self { elsewhere: authlete.authlete(), authlete, clock, sites }
    }

    /// Waits until nothing is under way in the background.
    pub(crate) async fn quiet(&self) {
        let mut quiet = 0;
        while quiet < 8 {
            tokio::task::yield_now().await;
            let busy = self.sites.iter().any(|site| site.calls.under_way() > 0);
            quiet = if busy { 0 } else { quiet + 1 };
        }
    }
}

/// A client of the emulator whose calls are counted, to the end of their answers.
fn client(authlete: &Emulator, calls: Arc<Calls>) -> Authlete {
    let transport = Transport::new(TlsRoots::None, CHECK).unwrap();
    let counting = service_fn(move |request: Request<_>| {
        let call = calls.begin(request.uri().path().ends_with(Api::Introspection.path()));
        let transport = transport.clone();
        async move {
            let response = transport.oneshot(request).await?;
            let counted = response.map(|body| {
                body.map_frame(move |frame| {
                    let _ = &call;
                    frame
                })
            });
            Ok::<_, tower::BoxError>(counted)
        }
    });
    let deadline = Duration::from_secs(60);
    authlete.client_builder().deadline(deadline).transport(counting).build().unwrap()
}

fn router(layer: &AuthLayer) -> Router {
    Router::new()
        .route("/", get(subject))
        .route("/read", get(subject).route_layer(RequireScopes::all(["read"])))
        .route("/write", get(subject).route_layer(RequireScopes::all(["write"])))
        .layer(layer.clone())
}

async fn subject(token: TokenInfo) -> String {
    token.subject().unwrap_or("nobody").to_owned()
}

/// `GET` with a token.
pub(crate) async fn request(router: Router, path: &str, token: &str) -> (StatusCode, String) {
    let request = Request::get(path).header("authorization", format!("Bearer {token}"));
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}
