//! Sliding expiry: tokens that admitted requests use get a longer life by `/auth/token/update`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{lifetime::ExtendLifetime, lineage::remembered, parts::LifecycleParts};
use crate::{
    api::{Error, TokenUpdateAction, TokenUpdateRequest, TokenUpdateResponse},
    clock::Moment,
    introspect::{Attempts, Presented, is_gone},
    observe::limited,
    resilience::Deadline,
    single_flight::{Call, Join, Leader, SingleFlight},
    store::{Key, Lease, PendingCheck, Update, tier::Claim},
    token::TokenInfo,
    verdict::{self, Verdict},
    verify::revalidate,
};

/// How many tokens are extended at a time; further ones have to wait for their next request.
const MAX_UNDER_WAY: usize = 64;

/// No update is sent for a token that has less left of its life: it could arrive after the token's expiry.
const MARGIN: Duration = Duration::from_millis(500);

/// Whether the layer lets a request pass whose token has these facts.
pub(crate) type Admits = Box<dyn Fn(TokenInfo) -> bool + Send + Sync>;

/// Decides which tokens are extended, and extends each once at a time.
pub(crate) struct Extender {
    extension: ExtendLifetime,
    parts: Arc<LifecycleParts>,
    extensions: SingleFlight<Key, Extended>,
    room: Arc<Semaphore>,
    /// When an extension was last attempted. After a failure, the next request does not attempt it again.
    tried: Cache<Key, Moment>,
    /// When a token was last introspected for its extension.
    introspected: Cache<Key, Moment>,
}

impl Extender {
    pub(crate) fn new(extension: ExtendLifetime, parts: Arc<LifecycleParts>) -> Self {
        Self {
            tried: remembered(extension.when_below),
            introspected: remembered(extension.when_below),
            extensions: SingleFlight::new(),
            room: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            extension,
            parts,
        }
    }

    /// Until when a token is to live, if it is to be extended.
    fn wants(&self, key: &Key, token: &TokenInfo, now: Moment) -> Option<SystemTime> {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(now.wall))?;
        let expires_at = token.expires_at()?;
        let left = expires_at.duration_since(time).ok()?;
        if left.is_zero()
            || left >= self.extension.when_below
            || !self.extension.is_chosen(token, &self.parts.log)
        {
            return None;
        }
        let first_seen = || self.parts.lineages.first_seen(key, now).elapsed(now);
        let age = token.auth_age(time).unwrap_or_else(first_seen);
        let rest = self.extension.never_beyond.saturating_sub(age);
        let until = time.checked_add(self.extension.to.min(rest))?;
        (until > expires_at).then_some(until)
    }

    /// Whether a token of an admitted request is to be extended.
    pub(crate) fn is_due(&self, key: &Key, token: &TokenInfo) -> bool {
        let now = self.parts.clock.moment();
        let under_way = || self.extensions.lock().under_way(key).is_some();
        self.wants(key, token, now).is_some()
            && (self.has_rested(&self.tried, key, now) || under_way())
    }

    /// Whether a token is to be introspected for its extension. Then it is noted as done.
    fn introspects(&self, key: &Key, now: Moment) -> bool {
        let rested = self.has_rested(&self.introspected, key, now);
        if rested {
            self.introspected.insert(*key, now);
        }
        rested
    }

    fn has_rested(&self, last: &Cache<Key, Moment>, key: &Key, now: Moment) -> bool {
        last.get(key).is_none_or(|at| at.elapsed(now) >= self.extension.when_below / 4)
    }

    pub(crate) fn is_waited_for(&self) -> bool {
        self.extension.wait
    }

    /// What is known, by the newest value, of a token that is known as a whole or as rejected.
    fn known_by_newest_value(&self, presented: &Presented) -> Option<Verdict> {
        let newest = self.parts.lineages.newest(&presented.key);
        let known = self.parts.store.get(&newest, presented.binding);
        known.filter(|known| known.as_ref().map_or(true, TokenInfo::is_complete))
    }
}

/// What became of an extension.
#[derive(Clone)]
enum Extended {
    /// The token lives longer.
    Longer(Arc<(TokenUpdateRequest, TokenUpdateResponse)>),
    /// There is no such token any more.
    Gone,
    /// Nothing changed, as far as is known.
    Not,
}

impl Extended {
    /// The facts of a token after it.
    fn apply(&self, token: TokenInfo) -> TokenInfo {
        match self {
            Self::Longer(update) => token.updated(&update.0, &update.1).unwrap_or(token),
            Self::Gone | Self::Not => token,
        }
    }
}

/// The extension that an admitted request asks for.
pub(crate) struct PendingExtension {
    extender: Arc<Extender>,
    pub(crate) presented: Arc<Presented>,
    /// The introspection that it follows, if its request has led to one. Without one, it begins with one.
    check: Option<Arc<PendingCheck>>,
    /// By which its request goes if it waits.
    lease: Option<Arc<Lease>>,
    admits: Admits,
}

impl PendingExtension {
    pub(crate) fn new(
        extender: &Arc<Extender>,
        presented: Arc<Presented>,
        check: Option<Arc<PendingCheck>>,
        lease: Option<Arc<Lease>>,
        admits: Admits,
    ) -> Self {
        Self { extender: extender.clone(), presented, check, lease, admits }
    }

    /// Whether the request waits for it.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.extender.is_waited_for()
    }

    /// Begins it beside the request.
    pub(crate) fn begin(self) {
        let _not_waited_for = self.start();
    }

    /// Begins it, unless it is under way or there is no room. Who wants to can wait for what it tells.
    fn start(self) -> Option<Arc<Call<Extended>>> {
        let Self { extender, presented, check, admits, .. } = self;
        let (key, parts) = (presented.key, &extender.parts);
        let (extension, leader, check, room) = {
            let mut extensions = extender.extensions.lock();
            if let Some(extension) = extensions.under_way(&key) {
                return Some(extension);
            }
            let now = parts.clock.moment();
            // One that has ended since this request was admitted is enough for it.
            if !extender.has_rested(&extender.tried, &key, now) {
                return None;
            }
            let introspects = || !presented.is_sent() && extender.introspects(&key, now);
            let ask = || revalidate(&parts.store, &parts.remote, &presented);
            // The token may have expired in the time that a response takes.
            let recent = |check: &Arc<PendingCheck>| check.is_recent(parts.deadline, now);
            let check = check.filter(recent).or_else(|| introspects().then(ask).flatten())?;
            let room = extender.room.clone().try_acquire_owned().ok()?;
            let Join::Lead(extension, leader) = extensions.join(key) else { return None };
            (extension, leader, check, room)
        };
        let task = ExtensionTask { extender, presented, check, admits, _room: room };
        tokio::spawn(task.run(leader));
        Some(extension)
    }

    /// Waits for it until the deadline at most, and tells what is known by then of a token that was
    /// admitted before; `None` if it was invalidated, and has to be asked about.
    pub(crate) async fn wait(mut self, token: TokenInfo, deadline: Deadline) -> Option<Verdict> {
        let (extender, presented) = (self.extender.clone(), self.presented.clone());
        let lease = self.lease.take();
        let extended = match self.start() {
            Some(extension) => deadline.wait(extension.outcome()).await.flatten(),
            None => None,
        };
        let extended = extended.unwrap_or(Extended::Not);
        if matches!(extended, Extended::Gone) {
            return Some(Err(verdict::not_found()));
        }
        let known = extender.known_by_newest_value(&presented);
        known.or_else(|| (!lease?.is_void()).then(|| Ok(extended.apply(token))))
    }
}

/// An extension under way.
struct ExtensionTask {
    extender: Arc<Extender>,
    presented: Arc<Presented>,
    check: Arc<PendingCheck>,
    admits: Admits,
    _room: OwnedSemaphorePermit,
}

impl ExtensionTask {
    async fn run(self, leader: Leader<Key, Extended>) {
        let extended = self.extend().await;
        leader.complete(extended.unwrap_or(Extended::Not));
    }

    async fn extend(&self) -> Option<Extended> {
        let Self { extender, presented, check, .. } = self;
        let (key, parts) = (presented.key, &*extender.parts);
        let token = check.verdict().await?.ok().filter(|token| (self.admits)(token.clone()))?;
        parts.share_sight(&key).await;
        let now = parts.clock.moment();
        let (until, expires_at) = extender.wants(&key, &token, now).zip(token.expires_at())?;
        extender.tried.insert(key, now);
        if !parts.store.claims(&key, Claim::Extend).await {
            return None;
        }
        // What was learnt or changed since the introspection is not undone by the update.
        let update = parts.store.begin_update_after(key, check)?;
        let request = TokenUpdateRequest::new()
            .access_token(presented.token())
            .access_token_expires_at(until);
        // To set the same expiry once more changes nothing, unless the token was changed in between.
        let time = || self.time_for_attempt(&update, expires_at);
        let response = parts.remote.update(&request, Attempts::Within(&time)).await;
        match response {
            Ok(response) if response.action == TokenUpdateAction::Ok => {
                update.commit_extension(|known, binding| {
                    parts.facts_after(known, binding, (key, key), &request, &response)
                });
                return Some(Extended::Longer(Arc::new((request, response))));
            }
            // By this value only, if another update has given it another one, or may be doing so.
            Ok(response) if is_gone(&response) => {
                if update.is_only_one() {
                    parts.store.invalidate(key);
                    return Some(Extended::Gone);
                }
            }
            Ok(response) => {
                let (action, code) = (response.action, response.result_code);
                limited!(
                    warn,
                    parts.log,
                    ?action,
                    code,
                    "the life of an access token could not be extended"
                );
            }
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                limited!(
                    warn,
                    parts.log,
                    error = cause,
                    "the life of an access token could not be extended"
                );
            }
        }
        None
    }

    /// The time for an attempt to extend a token that expires then, after which it must not arrive.
    fn time_for_attempt(&self, update: &Update, expires_at: SystemTime) -> Result<Duration, Error> {
        const API: &str = "/auth/token/update";
        if !update.is_current() {
            return Err(Error::not_made(API, "the token was changed or invalidated meanwhile"));
        }
        let left = expires_at.duration_since(self.extender.parts.clock.now()).unwrap_or_default();
        if left < MARGIN {
            return Err(Error::not_made(API, "the token is about to expire"));
        }
        Ok(left / 2)
    }
}
