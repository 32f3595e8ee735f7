//! An API behind the layer, in front of an upstream with a fault.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use axum::{Router, body::Body, extract::Request, routing::get};
use http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};
use tower_authlete::{
    AuthLayer, Authlete, CachePolicy, Clock, ProblemDetails, TokenInfo,
    api::{TlsRoots, Transport},
    resilience::{Resilience, Retry},
};

use crate::{
    certificates,
    matrix::{Cell, MINUTE, NOW, Row},
    secrets::{CREDENTIAL, TOKEN},
    upstream::{Fault, Upstream},
};

/// Calls that end by it run in paused time.
const DEADLINE: Duration = Duration::from_secs(60);

/// Longer, so that it is always the deadline that ends a call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(600);

/// A label of a name of a host has at most 63 letters, so that nobody has to be asked for this one.
const NO_NAME: &str = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn.invalid";

/// All that is ever in a response, so that nothing can be smuggled into one.
const HEADERS: [header::HeaderName; 5] = [
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
];

pub(crate) struct Setup {
    upstream: Upstream,
    fault: Fault,
    astray: Arc<AtomicBool>,
    clock: Clock,
    api: Router,
}

/// A complete response.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Setup {
    pub(crate) async fn new(row: &Row) -> Self {
        Self::allowing_stale(row, Duration::ZERO).await
    }

    /// A setup with this `stale_if_error`.
    pub(crate) async fn allowing_stale(row: &Row, up_to: Duration) -> Self {
        let good = json!({
            "action": "OK", "subject": "alice", "expiresAt": (NOW + 5 * MINUTE) * 1000,
        });
        let fault = row.fault.clone();
        let upstream = Upstream::start(&good.to_string(), fault.clone()).await;
        let clock = Clock::frozen(UNIX_EPOCH + Duration::from_secs(NOW));
        let astray = Arc::<AtomicBool>::default();
        let authlete = authlete(&upstream.url, astray.clone());
        let auth = AuthLayer::builder(authlete)
            .resilience(
                Resilience::new()
                    .retry(Retry::disabled())
                    .deadline(std::time::Duration::from_secs(120)),
            )
            .clock(clock.clone())
            .cache(CachePolicy::new().stale_if_error(up_to))
            .renderer(ProblemDetails);
        let api = Router::new().route("/", get(subject)).layer(auth.build().unwrap());
        Self { upstream, fault, astray, clock, api }
    }

    pub(crate) async fn begin_fault(&mut self) {
        self.upstream.begin_fault().await;
        match self.fault {
            Fault::HasNoAddress => self.astray.store(true, Ordering::SeqCst),
            Fault::IsAhead(minutes) => self.move_clock(minutes),
            _ => {}
        }
    }

    pub(crate) fn end_fault(&mut self) {
        self.upstream.end_fault();
        match self.fault {
            Fault::HasNoAddress => self.astray.store(false, Ordering::SeqCst),
            Fault::IsAhead(minutes) => self.move_clock(-minutes),
            _ => {}
        }
    }

    fn move_clock(&self, minutes: i16) {
        let by = Duration::from_secs(MINUTE) * u32::from(minutes.unsigned_abs());
        match minutes {
            0.. => self.clock.advance(by),
            _ => self.clock.rewind(by),
        }
    }

    /// Advances the clock until the cache has expired.
    pub(crate) fn outdate(&self) {
        self.clock.advance(Duration::from_secs(MINUTE));
    }

    /// The response to a request, and the calls that it caused.
    pub(crate) async fn look(&self) -> Cell {
        let before = self.upstream.calls();
        let answer = self.get().await;
        answer.assert_harmless();
        assert!(!self.upstream.has_trapped(), "a redirect was followed");
        Cell {
            status: answer.status.as_u16(),
            retry_after: answer.header(header::RETRY_AFTER),
            challenge: answer.header(header::WWW_AUTHENTICATE),
            subject: if answer.status == StatusCode::OK { answer.body } else { String::new() },
            calls: self.upstream.calls() - before,
        }
    }

    /// `GET /` with the token. If the call ends only by a timeout, tokio's time is paused and advances.
    async fn get(&self) -> Answer {
        let mut answer = tokio::spawn(send(self.api.clone()));
        tokio::select! {
            answer = &mut answer => answer.unwrap(),
            () = self.upstream.struck() => {
                tokio::time::pause();
                let since = Instant::now();
                let answer = answer.await.unwrap();
                assert!(since.elapsed().as_secs() <= DEADLINE.as_secs(), "a call never ends");
                tokio::time::resume();
                answer
            }
        }
    }
}

fn authlete(url: &str, astray: Arc<AtomicBool>) -> Authlete {
    let roots = TlsRoots::Pem(certificates::root().into_bytes());
    let transport = Transport::new(roots, CONNECT_TIMEOUT).unwrap();
    let lead_astray = move |mut request: http::Request<_>| {
        if astray.load(Ordering::SeqCst) {
            *request.uri_mut() = Uri::try_from(format!("http://{NO_NAME}/")).unwrap();
        }
        request
    };
    Authlete::builder()
        .base_url(url)
        .service_id("715948317")
        .service_access_token(CREDENTIAL)
        .deadline(DEADLINE)
        .transport(ServiceBuilder::new().map_request(lead_astray).service(transport))
        .build()
        .unwrap()
}

async fn subject(token: TokenInfo) -> String {
    let subject = token.subject().unwrap_or("nobody");
    let age = if token.is_stale() { " of old" } else { "" };
    format!("{subject}{age}")
}

async fn send(api: Router) -> Answer {
    let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    let response = api.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status: head.status, headers: head.headers, body }
}

impl Answer {
    /// The values of a header; empty if there is none.
    fn header(&self, name: header::HeaderName) -> String {
        let values = self.headers.get_all(name).iter().map(|value| value.to_str().unwrap());
        values.collect::<Vec<_>>().join(" and ")
    }

    /// Nothing of it is a secret, or made up by the upstream.
    fn assert_harmless(&self) {
        let text = format!("{:?} {}", self.headers, self.body);
        for secret in [TOKEN, CREDENTIAL] {
            assert!(!text.contains(secret), "{text}");
        }
        for name in self.headers.keys() {
            assert!(HEADERS.contains(name), "{text}");
        }
    }
}
