//! New values for tokens that are in use, by `/auth/token/update` with `accessTokenValueUpdated`.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use http::{Extensions, HeaderMap};
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    lineage::{MAX_REMEMBERED, remembered},
    parts::LifecycleParts,
    rotation::AccessTokenRotation,
    sink::NewValueSink,
};
use crate::{
    api::{Secret, TokenUpdateAction, TokenUpdateRequest, TokenUpdateResponse},
    clock::Moment,
    introspect::{Attempts, is_gone},
    observe::limited,
    resilience::Deadline,
    single_flight::{self, Join, Leader, SingleFlight},
    store::{
        Alias, Key, Update,
        tier::{Claim, Sight},
    },
};

/// How many tokens get a new value at a time; further ones get theirs with a later request.
const MAX_UNDER_WAY: usize = 64;

/// For how long a request that was admitted with the old value still learns the new one.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// The new value of a token; `None` if there is none.
type Rotated = Option<Arc<Successor>>;

/// What a value has become.
pub(crate) struct Successor {
    pub(crate) value: Secret,
    pub(crate) key: Key,
    at: Moment,
}

pub(crate) struct Rotator {
    rotation: AccessTokenRotation,
    parts: Arc<LifecycleParts>,
    /// Since when a value is in use.
    first_seen: Cache<Key, Moment>,
    successors: Cache<Key, Arc<Successor>>,
    /// When a new value was last asked for in vain. The next request does not ask again.
    tried: Cache<Key, Moment>,
    rotations: SingleFlight<Key, Rotated>,
    room: Arc<Semaphore>,
}

impl Rotator {
    pub(crate) fn new(rotation: AccessTokenRotation, parts: Arc<LifecycleParts>) -> Self {
        Self {
            first_seen: remembered(rotation.every.saturating_mul(2)),
            tried: remembered(rotation.every),
            successors: Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(TOLD_FOR)
                .build(),
            rotation,
            parts,
            rotations: SingleFlight::new(),
            room: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
        }
    }

    /// What a value has become in the last minute.
    pub(crate) fn successor(&self, key: &Key) -> Option<Arc<Successor>> {
        let now = self.parts.clock.moment();
        self.successors.get(key).filter(|it| !it.at.after(TOLD_FOR).is_past(now))
    }

    /// Keeps a value from getting a successor while the reservation lives, after waiting for one that is
    /// being asked for, until the deadline at most. Reservations do not wait for each other.
    pub(crate) async fn reserve(&self, key: Key, deadline: &Deadline) -> RotationReservation {
        let (reservation, under_way) = {
            let mut rotations = self.rotations.lock();
            (rotations.reserve(key), rotations.under_way(&key))
        };
        if let Some(under_way) = under_way {
            deadline.wait(under_way.outcome()).await;
        }
        reservation
    }

    /// Notes that a value is in use, and asks in the background since when it is in other processes.
    pub(crate) fn see(self: &Arc<Self>, key: &Key) {
        let (now, mut is_new) = (self.parts.clock.recently(), false);
        self.first_seen.get_with(*key, || {
            is_new = true;
            now
        });
        if is_new && self.parts.store.is_shared() {
            let (rotator, key) = (self.clone(), *key);
            tokio::spawn(async move { rotator.share_sight(key, now).await });
        }
    }

    async fn share_sight(&self, key: Key, own: Moment) {
        let keep = self.rotation.every.saturating_mul(2);
        let since = self.parts.store.first_seen(&key, Sight::Value, own, keep).await;
        self.first_seen.insert(key, since);
    }

    /// Whether a value has been in use for long enough, or is not in use any more.
    fn is_due(&self, key: &Key) -> bool {
        let now = self.parts.clock.recently();
        let old = |since: Moment| since.elapsed(now) >= self.rotation.every;
        let rested = |tried: Moment| tried.elapsed(now) >= self.rotation.every / 4;
        let due =
            self.first_seen.get(key).is_some_and(old) && self.tried.get(key).is_none_or(rested);
        due || self.successors.contains_key(key)
    }
}

/// While it lives, a value gets no successor.
pub(crate) type RotationReservation = single_flight::Reservation<Key, Rotated>;

/// The rotation that an admitted request asks for, if it is answered with success.
pub(crate) struct PendingRotation {
    rotator: Arc<Rotator>,
    /// Of the value as it was presented.
    key: Key,
    token: Secret,
    /// Who takes the new value in place of the client.
    sink: Option<NewValueSink>,
}

/// A new value that is being asked for.
pub(crate) type Rotating = Pin<Box<dyn Future<Output = Option<NewValue>> + Send>>;

impl PendingRotation {
    /// A rotation, if it is time for one.
    pub(crate) fn due(
        rotator: &Arc<Rotator>,
        key: Key,
        token: &str,
        extensions: &Extensions,
    ) -> Option<Self> {
        let sink = || NewValueSink::of(token, extensions);
        let pending = || Self { rotator: rotator.clone(), key, token: token.into(), sink: sink() };
        rotator.is_due(&key).then(pending)
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
        let Self { rotator, key, token, .. } = self;
        let (rotation, leads) = {
            let mut rotations = rotator.rotations.lock();
            if let Some(successor) = rotator.successor(&key) {
                drop(rotations);
                return Some(NewValue { rotator, successor });
            }
            match rotations.under_way(&key) {
                Some(rotation) => (rotation, None),
                // The token is being revoked.
                None if rotations.is_reserved(&key) => return None,
                // It would be in vain, or a new value would be lost.
                None if rotator.parts.remote.availability().is_down => return None,
                None => {
                    // Those for whom there is no room get one with another request.
                    let room = rotator.room.clone().try_acquire_owned().ok()?;
                    let Join::Lead(rotation, leader) = rotations.join(key) else { return None };
                    (rotation, Some((leader, room)))
                }
            }
        };
        if let Some((leader, room)) = leads {
            let task = RotationTask { rotator: rotator.clone(), key, leader, _room: room };
            tokio::spawn(task.run(token));
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
    rotator: Arc<Rotator>,
    key: Key,
    leader: Leader<Key, Rotated>,
    _room: OwnedSemaphorePermit,
}

/// The answer to a rotation.
struct Renewed {
    update: Update,
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
        if let Some(successor) = &successor {
            // Before anybody can present the new value to another process.
            self.rotator.parts.share_sight(&successor.key).await;
        }
        self.leader.complete(successor);
    }

    /// Makes the new value known here. Tells whether the token was revoked meanwhile.
    fn publish(&self, renewed: Option<Renewed>) -> (Rotated, bool) {
        let (rotator, key) = (&*self.rotator, self.key);
        let parts = &*rotator.parts;
        let now = parts.clock.moment();
        let Some(Renewed { update, request, response, value }) = renewed else {
            self.leader.publish(|| rotator.tried.insert(key, now));
            return (None, false);
        };
        let new = parts.store.key(value.expose());
        let (successor, ended) = self.leader.publish(|| {
            let ended = parts.lineages.renew(&key, new, response.token_id.as_deref(), now);
            let successor = Arc::new(Successor { value, key: new, at: now });
            if !ended {
                rotator.successors.insert(key, successor.clone());
            }
            (successor, ended)
        });
        let overlap = rotator.rotation.overlap;
        let value = || successor.value.clone();
        let alias = || Alias { key: new, value: value(), until: now.after(overlap) };
        let alias = (!ended && !overlap.is_zero()).then(alias);
        update.commit(new, alias, |known, binding| {
            let facts = || parts.facts_after(known, binding, (key, new), &request, &response);
            (!ended).then(facts).flatten()
        });
        (Some(successor), ended)
    }

    async fn revoke(&self, value: &Secret) {
        let parts = &*self.rotator.parts;
        if let Err(error) = parts.remote.revoke(value).await {
            let cause = &error as &dyn std::error::Error;
            limited!(
                error,
                parts.log,
                error = cause,
                "an access token that was revoked while it got a new value lives on; nobody was told \
                 the new value"
            );
        }
    }

    /// Asks for a new value.
    async fn renew(&self, token: &Secret) -> Option<Renewed> {
        let (parts, key) = (&*self.rotator.parts, self.key);
        if !parts.store.claims(&key, Claim::Rotate).await {
            return None;
        }
        let request =
            TokenUpdateRequest::new().access_token(token).access_token_value_updated(true);
        let update = parts.store.begin_update(key);
        let response = match parts.remote.update(&request, Attempts::One).await {
            Ok(response) => response,
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                if error.is_unsent() || error.is_turned_away() {
                    limited!(
                        warn,
                        parts.log,
                        error = cause,
                        "an access token could not get a new value"
                    );
                    return None;
                }
                // The old value is gone, or nobody knows.
                parts.store.invalidate(key);
                limited!(
                    error,
                    parts.log,
                    error = cause,
                    "an access token may have got a new value that is lost; its client will be refused"
                );
                return None;
            }
        };
        if response.action != TokenUpdateAction::Ok {
            if is_gone(&response) {
                parts.store.invalidate(key);
            }
            let (action, code) = (response.action, response.result_code);
            limited!(warn, parts.log, ?action, code, "an access token could not get a new value");
            return None;
        }
        let Some(value) = response.access_token.clone() else {
            parts.store.invalidate(key);
            limited!(
                error,
                parts.log,
                "Authlete gave an access token a new value, but did not tell it"
            );
            return None;
        };
        Some(Renewed { update, request, response, value })
    }
}

impl fmt::Debug for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Successor").finish_non_exhaustive()
    }
}
