//! New values for tokens that are in use, by `/auth/token/update` with `accessTokenValueUpdated`.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, SET_COOKIE},
};
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{MAX_REMEMBERED, extend::remembered, sink::NewValueSink};
use crate::{
    api::{
        ConfigError, Secret, TokenRevokeRequest, TokenUpdateAction, TokenUpdateRequest,
        TokenUpdateResponse,
    },
    cache::Key,
    clock::Moment,
    observe::limited,
    resilience::{Deadline, RetryMode},
    single_flight::{self, Join, Leader, SingleFlight},
    verdict::is_gone,
    verifier::{Change, Verifier},
};

/// How many tokens get a new value at a time; further ones get theirs with a later request.
const MAX_UNDER_WAY: usize = 64;

/// For how long a request that was let pass with the old value still learns the new one.
const IN_FLIGHT: Duration = Duration::from_secs(60);

/// How tokens in use get new values from time to time, so that one that leaked is of use only for
/// a while.
///
/// The client is told the new value in the response that it gets, and has to use it from then on: the
/// old value stops working at once, here and at Authlete, but for the [overlap](Self::overlap), which other
/// processes do not know of. What they have cached of the old value they use for their
/// [`max_age`](crate::AuthLayerBuilder::max_age) at most. Only successful responses (below 400, and not refused
/// by a layer of this crate) carry the new value, and they are not to be stored. Requests that come at once
/// with one token cause one rotation, and all of them learn the same new value.
///
/// If the answer of Authlete is lost, so is the new value: the client is then refused with a challenge,
/// and an error is logged. While Authlete cannot be asked, no new value is asked for, nor are more than
/// 64 at a time: those tokens get theirs with a later request.
///
/// The new value is kept in memory for a minute, for requests that are on their way with the old one. By
/// an old value the token can be [revoked](crate::AuthHandle::revoke) for as long as that is remembered: of
/// more than 100 000 values, those that were not used for longest are forgotten. A
/// [`RevocationEndpoint`](crate::endpoint::RevocationEndpoint) can do so for a minute after the rotation.
///
/// Tokens that come with a DPoP proof get no new values.
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

    /// How long a value is used, from when this layer first saw it, which each process counts for itself
    /// and for 100 000 values at most. Default: 15 minutes.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// How long the old value is still accepted by this process, for requests that are on their way: it
    /// stands for the new one. A minute at most, and less than [`every`](Self::every). Default: 0.
    #[must_use]
    pub fn overlap(self, overlap: Duration) -> Self {
        Self { overlap, ..self }
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
type Rotated = Option<Arc<Successor>>;

/// What a token has become.
pub(crate) struct Successor {
    pub(crate) value: Secret,
    /// Under which it is known.
    pub(crate) key: Key,
    at: Moment,
    /// Whether the old value can still be accepted.
    overlaps: AtomicBool,
}

pub(crate) struct Rotator {
    rotation: Rotation,
    /// Since when a value is in use.
    first_seen: Cache<Key, Moment>,
    successors: Cache<Key, Arc<Successor>>,
    /// When a new value was last asked for in vain. The very next request does not ask again.
    tried: Cache<Key, Moment>,
    rotations: SingleFlight<Key, Rotated>,
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
            rotations: SingleFlight::new(),
            room: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
        }
    }

    /// What a value has become a moment ago.
    pub(crate) fn successor(&self, key: &Key, now: Moment) -> Option<Arc<Successor>> {
        self.successors.get(key).filter(|it| !it.at.after(IN_FLIGHT).is_past(now))
    }

    /// The new value that an old one stands for, if that is still accepted.
    pub(crate) fn overlapping(&self, key: &Key, now: Moment) -> Option<Arc<Successor>> {
        let successor = self.successors.get(key)?;
        let over = successor.at.after(self.rotation.overlap).is_past(now);
        (!over && successor.overlaps.load(Ordering::Acquire)).then_some(successor)
    }

    /// Ends the overlap of a value, also of one that is just getting a successor.
    pub(crate) fn end_overlap(&self, key: &Key) {
        let mut rotations = self.rotations.lock();
        rotations.invalidate(key);
        if let Some(successor) = self.successors.get(key) {
            successor.overlaps.store(false, Ordering::Release);
        }
    }

    pub(crate) fn end_all_overlaps(&self) {
        let mut rotations = self.rotations.lock();
        rotations.invalidate_all();
        for (_, successor) in &self.successors {
            successor.overlaps.store(false, Ordering::Release);
        }
    }

    /// Keeps a value from getting a successor while the reservation lives, after waiting for one that is
    /// on its way, until the deadline at most. Reservations do not wait for each other.
    pub(crate) async fn reserve(&self, key: Key, deadline: &Deadline) -> Reservation {
        let (reservation, under_way) = {
            let mut rotations = self.rotations.lock();
            (rotations.reserve(key), rotations.under_way(&key))
        };
        if let Some(under_way) = under_way {
            deadline.wait(under_way.outcome()).await;
        }
        reservation
    }

    /// Whether a value is getting a successor.
    pub(crate) fn is_renewing(&self, key: &Key) -> bool {
        self.rotations.lock().under_way(key).is_some()
    }

    /// Notes that a value is in use.
    pub(crate) fn see(&self, key: &Key, now: Moment) {
        self.first_seen.get_with(*key, || now);
    }

    /// Whether a value has been in use for long enough, or is not in use any more.
    pub(crate) fn is_due(&self, key: &Key, now: Moment) -> bool {
        let age = |since: Moment| since.elapsed(now);
        let old = |since| age(since) >= self.rotation.every;
        let pause = self.rotation.every / 4;
        let due = self.first_seen.get(key).is_some_and(old)
            && self.tried.get(key).is_none_or(|tried| age(tried) >= pause);
        due || self.successors.contains_key(key)
    }
}

/// While it lives, a value gets no successor.
pub(crate) type Reservation = single_flight::Reservation<Key, Rotated>;

/// The rotation that an admitted request asks for, if it is answered with success.
pub(crate) struct PendingRotation {
    verifier: Arc<Verifier>,
    /// Of the value as it was presented.
    key: Key,
    token: Secret,
    /// Who takes the new value in place of the client.
    sink: Option<NewValueSink>,
}

/// The new value on its way.
pub(crate) type Rotating = Pin<Box<dyn Future<Output = Option<NewValue>> + Send>>;

impl PendingRotation {
    /// A rotation, if it is time for one.
    pub(crate) fn due(
        verifier: &Arc<Verifier>,
        key: Key,
        token: &str,
        extensions: &Extensions,
    ) -> Option<Self> {
        let due = verifier.rotator.as_ref()?.is_due(&key, verifier.clock.recently());
        let sink = || NewValueSink::of(token, extensions);
        due.then(|| Self { verifier: verifier.clone(), key, token: token.into(), sink: sink() })
    }

    pub(crate) fn start(mut self) -> Rotating {
        let Some(sink) = self.sink.take() else { return Box::pin(self.run()) };
        Box::pin(async move {
            // A task of its own: if the client goes away, nobody else learns the new value.
            let putting = tokio::spawn(async move {
                if let Some(new) = self.run().await {
                    sink.put(new.successor.value.clone()).await;
                }
            });
            // It fails if the runtime shuts down, or by a panic, which has been reported.
            let _ = putting.await;
            None
        })
    }

    /// Gives the token a new value, once for all who ask.
    async fn run(self) -> Option<NewValue> {
        let Self { verifier, key, token, .. } = self;
        let rotator = verifier.rotator.clone()?;
        let (rotation, begins) = {
            let mut rotations = rotator.rotations.lock();
            if let Some(successor) = rotator.successor(&key, verifier.clock.moment()) {
                drop(rotations);
                return Some(NewValue { rotator, successor });
            }
            match rotations.under_way(&key) {
                Some(rotation) => (rotation, None),
                // The token is being revoked; or it would be in vain, or a new value would be lost.
                None if rotations.is_reserved(&key) || verifier.is_down() => return None,
                None => {
                    // Those for whom there is no room have their turn with another request.
                    let room = rotator.room.clone().try_acquire_owned().ok()?;
                    let Join::Lead(rotation, leader) = rotations.join(key) else { return None };
                    (rotation, Some((leader, room)))
                }
            }
        };
        if let Some((leader, room)) = begins {
            let rotator = rotator.clone();
            tokio::spawn(RotationTask { verifier, rotator, key, leader, _room: room }.run(token));
        }
        let successor = rotation.outcome().await.flatten()?;
        Some(NewValue { rotator, successor })
    }
}

/// What a client has to be told.
pub(crate) struct NewValue {
    rotator: Arc<Rotator>,
    successor: Arc<Successor>,
}

impl NewValue {
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        self.rotator.rotation.tell(&self.successor.value, headers);
    }
}

/// A rotation under way.
struct RotationTask {
    verifier: Arc<Verifier>,
    rotator: Arc<Rotator>,
    key: Key,
    leader: Leader<Key, Rotated>,
    _room: OwnedSemaphorePermit,
}

/// The answer to a rotation.
struct Renewed<'v> {
    change: Change<'v>,
    request: TokenUpdateRequest,
    response: TokenUpdateResponse,
    value: Secret,
}

impl RotationTask {
    async fn run(self, token: Secret) {
        let renewed = self.renew(&token).await;
        let (successor, ended) = self.publish(renewed);
        // The token was revoked meanwhile: nobody is to learn of a value that lives on.
        let successor = match successor {
            Some(successor) if ended => {
                self.revoke(&successor.value).await;
                None
            }
            successor => successor,
        };
        self.leader.complete(successor);
    }

    /// Makes the new value known here. Tells whether the token was revoked meanwhile.
    fn publish(&self, renewed: Option<Renewed<'_>>) -> (Rotated, bool) {
        let Self { verifier, rotator, key, .. } = self;
        let now = verifier.clock.moment();
        let Some(Renewed { change, request, response, value }) = renewed else {
            self.leader.publish(|_| rotator.tried.insert(*key, now));
            return (None, false);
        };
        let new = verifier.key(value.expose());
        let (successor, invalidated, ended) = self.leader.publish(|invalidated| {
            let ended = verifier.lineages.renew(key, new, response.token_id.as_deref(), now);
            // If the token was invalidated meanwhile, neither value is to be known.
            let overlaps = AtomicBool::new(!invalidated && !ended);
            let successor = Arc::new(Successor { value, key: new, at: now, overlaps });
            if !ended {
                rotator.successors.insert(*key, successor.clone());
            }
            (successor, invalidated, ended)
        });
        // Only now, so that the old value stands for the new one when nothing is known of it any more.
        verifier.write_through(&change, new, &request, &response);
        if invalidated || ended {
            verifier.forget_value(new);
        }
        (Some(successor), ended)
    }

    async fn revoke(&self, value: &Secret) {
        let request = TokenRevokeRequest::new().access_token_identifier(value);
        let attempt = || self.verifier.authlete.token_revoke(&request);
        let revoked =
            self.verifier.caller.call("/auth/token/revoke", RetryMode::Always, attempt).await;
        if let Err(error) = revoked {
            let cause = &error as &dyn std::error::Error;
            limited!(
                error,
                self.verifier.log,
                error = cause,
                "an access token that was revoked while it got a new value lives on; nobody was told \
                 the new value"
            );
        }
    }

    /// Asks for a new value.
    async fn renew(&self, token: &Secret) -> Option<Renewed<'_>> {
        let verifier = &*self.verifier;
        let request =
            TokenUpdateRequest::new().access_token(token).access_token_value_updated(true);
        let change = verifier.change(self.key);
        let response = match verifier.authlete.token_update(&request).await {
            Ok(response) => response,
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                if error.is_unsent() || error.is_turned_away() {
                    limited!(
                        warn,
                        verifier.log,
                        error = cause,
                        "an access token could not get a new value"
                    );
                    return None;
                }
                // The old value is gone, or nobody knows.
                verifier.forget_value(self.key);
                limited!(
                    error,
                    verifier.log,
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
            limited!(
                warn,
                verifier.log,
                ?action,
                code,
                "an access token could not get a new value"
            );
            return None;
        }
        let Some(value) = response.access_token.clone() else {
            verifier.forget_value(self.key);
            limited!(
                error,
                verifier.log,
                "Authlete gave an access token a new value, but did not tell it"
            );
            return None;
        };
        Some(Renewed { change, request, response, value })
    }
}

impl fmt::Debug for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Successor").finish_non_exhaustive()
    }
}
