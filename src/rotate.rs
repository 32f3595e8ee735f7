//! New values for tokens that are in use, by `/auth/token/update` with `accessTokenValueUpdated`.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, SET_COOKIE},
};
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    api::{ConfigError, Secret, TokenUpdateAction, TokenUpdateRequest},
    cache::{Berth, Flight, Flights, Key, Purpose, Standing},
    layer::finish,
    new_value::NewValueSink,
    refresh::{MAX_REMEMBERED, remembered},
    verdict::is_gone,
    verifier::Verifier,
};

/// How many tokens get a new value at a time; further ones get theirs with a later request.
const MAX_UNDER_WAY: usize = 64;

/// For how long a request that was let pass with the old value still learns the new one.
const IN_FLIGHT: Duration = Duration::from_secs(60);

/// How tokens in use get new values from time to time, so that one that leaked is of use only for
/// a while.
///
/// The client is told the new value in the response that it gets, and has to use it from then on: the
/// old value stops working at once, here and at Authlete, but for the [overlap](Self::overlap). Only
/// successful responses (below 400) carry it, and they are not to be stored. Requests that come at once
/// with one token cause one rotation, and all of them learn the same new value.
///
/// If the answer of Authlete is lost, so is the new value: the client is then refused with a challenge,
/// and an error is logged. While Authlete cannot be asked, no new value is asked for, nor are more than
/// 64 at a time: those tokens get theirs with a later request.
///
/// ```
/// use std::time::Duration;
/// use http::HeaderName;
/// use tower_authlete::{AuthLayer, Rotation};
///
/// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
/// let rotation = Rotation::in_header(HeaderName::from_static("x-new-token"))
///     .every(Duration::from_secs(15 * 60))
///     .overlap(Duration::from_secs(10));
/// let auth = AuthLayer::builder(authlete).rotate(rotation).build()?;
/// # let _ = auth;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Rotation {
    place: Place,
    every: Duration,
    overlap: Duration,
}

#[derive(Debug, Clone)]
enum Place {
    Header(HeaderName),
    Cookie(String),
}

impl Rotation {
    fn new(place: Place) -> Self {
        Self { place, every: Duration::from_secs(15 * 60), overlap: Duration::ZERO }
    }

    /// The client finds the new value in this response header.
    #[must_use]
    pub fn in_header(name: HeaderName) -> Self {
        Self::new(Place::Header(name))
    }

    /// The client gets the new value as this cookie, `HttpOnly; Secure; SameSite=Lax; Path=/`. Use it
    /// with [`CookieToken`](crate::CookieToken).
    #[must_use]
    pub fn in_cookie(name: impl Into<String>) -> Self {
        Self::new(Place::Cookie(name.into()))
    }

    /// How long a value is used, from when this layer first saw it. Default: 15 minutes.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// How long the old value is still accepted here, for requests that are on their way. It takes a
    /// cache. Default: 0.
    #[must_use]
    pub fn overlap(self, overlap: Duration) -> Self {
        Self { overlap, ..self }
    }

    pub(crate) fn overlaps(&self) -> bool {
        !self.overlap.is_zero()
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.every.is_zero() {
            let remedy = "give how long a value of a token is used";
            return Err(ConfigError::new("rotate.every", "0", remedy));
        }
        if self.overlap > IN_FLIGHT || self.overlap >= self.every {
            let problem = format!("{} ms", self.overlap.as_millis());
            let remedy = "give at most a minute, and less than `every`";
            return Err(ConfigError::new("rotate.overlap", problem, remedy));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match &self.place {
            Place::Cookie(name) if name.is_empty() || !name.bytes().all(legal) => {
                let problem = format!("{} bytes, not a token of RFC 9110", name.len());
                Err(ConfigError::new("rotate.in_cookie", problem, "use letters, digits, - and _"))
            }
            _ => Ok(()),
        }
    }

    /// Tells the client.
    fn tell(&self, value: &Secret, headers: &mut HeaderMap) {
        let (name, text) = match &self.place {
            Place::Header(name) => (name.clone(), value.expose().to_owned()),
            Place::Cookie(name) => {
                let value = value.expose();
                let cookie = format!("{name}={value}; HttpOnly; Secure; SameSite=Lax; Path=/");
                (SET_COOKIE, cookie)
            }
        };
        // A token of Authlete's is always a legal value; one that is not cannot be told.
        let Ok(mut text) = HeaderValue::try_from(text) else { return };
        text.set_sensitive(true);
        headers.append(name, text);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// The new value of a token; `None` if there is none.
pub(crate) type Rotated = Option<Arc<Successor>>;

/// What a token has become.
pub(crate) struct Successor {
    value: Secret,
    /// Under which it is known.
    key: Key,
    at: SystemTime,
    /// Whether the old value can still be accepted.
    overlaps: AtomicBool,
}

pub(crate) struct Rotator {
    rotation: Rotation,
    first_seen: Cache<Key, SystemTime>,
    successors: Cache<Key, Arc<Successor>>,
    /// When a new value was last asked for in vain. The very next request does not ask again.
    tried: Cache<Key, SystemTime>,
    flights: Flights<Rotated>,
    room: Arc<Semaphore>,
}

impl Rotator {
    pub(crate) fn new(rotation: Rotation) -> Self {
        Self {
            first_seen: remembered(rotation.every.saturating_mul(2)),
            tried: remembered(rotation.every),
            successors: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(IN_FLIGHT)
                .build(),
            rotation,
            flights: Flights::new(),
            room: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
        }
    }

    /// The key of the new value of a token, if that is so new that the old one is still accepted.
    pub(crate) fn overlapping(&self, key: &Key, now: SystemTime) -> Option<Key> {
        let successor = self.successors.get(key)?;
        let age = now.duration_since(successor.at).unwrap_or_default();
        let accepted = age < self.rotation.overlap && successor.overlaps.load(Ordering::Acquire);
        accepted.then_some(successor.key)
    }

    /// Ends the overlap of a token, also of one that is just getting a new value. Tells the key of
    /// the value that it got.
    pub(crate) fn end_overlap(&self, key: &Key) -> Option<Key> {
        let mut flights = self.flights.lock();
        flights.overtake(key, None);
        let successor = self.successors.get(key)?;
        successor.overlaps.store(false, Ordering::Release);
        Some(successor.key)
    }

    pub(crate) fn end_all_overlaps(&self) {
        let mut flights = self.flights.lock();
        flights.overtake_all();
        for (_, successor) in &self.successors {
            successor.overlaps.store(false, Ordering::Release);
        }
    }

    /// Keeps a token from getting a new value, after waiting for one that is on its way, and tells
    /// the value that it got a moment ago.
    pub(crate) async fn halt(&self, key: Key, now: SystemTime) -> (Halt<'_>, Option<Secret>) {
        let halt = self.flights.occupy(key, now).await;
        let successor = self.successors.get(&key);
        (halt, successor.map(|successor| successor.value.clone()))
    }

    /// Whether the value of a token has been in use for long enough, or is not in use any more.
    pub(crate) fn is_due(&self, key: &Key, now: SystemTime) -> bool {
        let age = |at| now.duration_since(at).unwrap_or_default();
        let since = self.first_seen.get_with(*key, || now);
        let pause = self.rotation.every / 4;
        let due = age(since) >= self.rotation.every
            && self.tried.get(key).is_none_or(|tried| age(tried) >= pause);
        due || self.successors.contains_key(key)
    }
}

/// A rotation that does not take place: who waits for it learns of no new value.
pub(crate) type Halt<'r> = Berth<'r, Rotated>;

impl Verifier {
    /// Gives a token a new value, once for all who ask, and tells it in a response.
    pub(crate) async fn rotate(self: Arc<Self>, token: Secret) -> Option<Told> {
        let rotator = self.rotator.clone()?;
        let key = self.key(token.expose());
        let (flight, turning) = {
            let mut flights = rotator.flights.lock();
            if let Some(successor) = rotator.successors.get(&key) {
                drop(flights);
                return Some(Told { rotator, successor });
            }
            match flights.join(&key, Purpose::SHARED) {
                Some(flight) => (flight, None),
                // It would be in vain, or a new value would be lost.
                None if self.is_down() => return None,
                None => {
                    // Those for whom there is no room have their turn with another request.
                    let room = rotator.room.clone().try_acquire_owned().ok()?;
                    let (sender, flight) = flights.depart(key, Purpose::SHARED, self.clock.now());
                    let (verifier, rotator) = (self.clone(), rotator.clone());
                    let flying = flight.clone();
                    let rotating = Rotating { verifier, rotator, key, flight, sender, _room: room };
                    (flying, Some(rotating))
                }
            }
        };
        if let Some(turning) = turning {
            tokio::spawn(turning.run(token));
        }
        let successor = flight.outcome().await.flatten()?;
        Some(Told { rotator, successor })
    }
}

/// A request whose token gets a new value, if it is answered with success.
pub(crate) struct Turn {
    verifier: Arc<Verifier>,
    token: Secret,
    /// Who takes the new value in place of the client.
    sink: Option<NewValueSink>,
}

impl Turn {
    /// A turn, if it is time for one.
    pub(crate) fn due(
        verifier: &Arc<Verifier>,
        token: &str,
        extensions: &Extensions,
    ) -> Option<Self> {
        let rotator = verifier.rotator.as_ref()?;
        let due = rotator.is_due(&verifier.key(token), verifier.clock.now());
        let sink = || NewValueSink::of(token, extensions);
        due.then(|| Self { verifier: verifier.clone(), token: token.into(), sink: sink() })
    }

    pub(crate) fn take(self) -> Turning {
        let rotating = self.verifier.rotate(self.token);
        let Some(sink) = self.sink else { return Box::pin(rotating) };
        // It is finished even if the client goes away: nobody else learns the new value.
        Box::pin(finish(async move {
            if let Some(told) = rotating.await {
                sink.put(told.successor.value.clone()).await;
            }
            None
        }))
    }
}

/// The new value on its way.
pub(crate) type Turning = Pin<Box<dyn Future<Output = Option<Told>> + Send>>;

/// What a client has to be told.
pub(crate) struct Told {
    rotator: Arc<Rotator>,
    successor: Arc<Successor>,
}

impl Told {
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        self.rotator.rotation.tell(&self.successor.value, headers);
    }
}

/// A rotation under way, which takes itself off the table whatever becomes of it.
struct Rotating {
    verifier: Arc<Verifier>,
    rotator: Arc<Rotator>,
    key: Key,
    flight: Arc<Flight<Rotated>>,
    sender: watch::Sender<Option<Rotated>>,
    _room: OwnedSemaphorePermit,
}

impl Rotating {
    async fn run(self, token: Secret) {
        let value = self.rotated(&token).await;
        let at = self.verifier.clock.now();
        let mut flights = self.rotator.flights.lock();
        // If the token was forgotten meanwhile, neither value is to be known.
        let forgotten = flights.land(&self.key, &self.flight) != Standing::Newest;
        let successor = value.map(|value| {
            let key = self.verifier.key(value.expose());
            let overlaps = AtomicBool::new(!forgotten);
            Arc::new(Successor { value, key, at, overlaps })
        });
        match &successor {
            Some(successor) => {
                self.verifier.pairs.renew(&self.key, successor.key);
                self.rotator.successors.insert(self.key, successor.clone());
            }
            None => self.rotator.tried.insert(self.key, at),
        }
        drop(flights);
        if let Some(successor) = successor.as_ref().filter(|_| forgotten) {
            self.verifier.forget_value(successor.key);
        }
        self.sender.send_replace(Some(successor));
    }

    /// Asks for a new value, and moves what is known of the old one to it.
    async fn rotated(&self, token: &Secret) -> Option<Secret> {
        let verifier = &*self.verifier;
        let request =
            TokenUpdateRequest::new().access_token(token).access_token_value_updated(true);
        let change = verifier.change(self.key);
        let response = match verifier.authlete.token_update(&request).await {
            Ok(response) => response,
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                if error.is_unsent() || error.is_turned_away() {
                    tracing::warn!(error = cause, "an access token could not get a new value");
                    return None;
                }
                // The old value is gone, or nobody knows.
                verifier.forget_value(self.key);
                tracing::error!(
                    error = cause,
                    "an access token may have got a new value that is lost; its client will be refused"
                );
                return None;
            }
        };
        if response.action != TokenUpdateAction::Ok {
            if is_gone(&response) {
                verifier.forget_value(self.key);
            }
            let (action, code) = (response.action, response.result_code);
            tracing::warn!(?action, code, "an access token could not get a new value");
            return None;
        }
        let Some(value) = &response.access_token else {
            verifier.forget_value(self.key);
            tracing::error!("Authlete gave an access token a new value, but did not tell it");
            return None;
        };
        verifier.write_through(&change, verifier.key(value.expose()), &request, &response);
        Some(value.clone())
    }
}

impl Drop for Rotating {
    fn drop(&mut self) {
        self.rotator.flights.lock().land(&self.key, &self.flight);
    }
}

impl fmt::Debug for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Successor").finish_non_exhaustive()
    }
}
