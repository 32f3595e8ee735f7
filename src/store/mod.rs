//! Everything that is known of tokens: what is cached, what is being asked, and since when it counts.
//!
//! One rule keeps it right. *A call about a token takes a [lease](Lease) on it first. What it learns is kept, or
//! used, only if the lease is not void. Every invalidation of the token ends its lease, and removes
//! what is cached.* Waiters, updates, extensions, rotations and delegated tokens go by leases; an invalidation
//! of another token changes nothing for them. [`Epochs`] has them all, and the epochs by which go copies in
//! the hot cache and answers that issue tokens.
//!
//! All of that changes with one lock held, which never leaves this file. Look-ups take no lock.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    api::Secret,
    cache::CachePolicy,
    clock::{Clock, Moment},
    rejection::Rejection,
    token::TokenInfo,
    verdict::{self, Verdict},
};

mod entry;
pub(crate) mod epoch;
mod hot;
mod in_flight;
mod key;
mod lease;
mod memory;
// Nobody implements it without the feature `redis`.
#[cfg_attr(not(feature = "redis"), allow(dead_code))]
pub(crate) mod tier;
mod trust;

#[cfg(feature = "redis")]
pub(crate) use self::key::BUCKETS;
#[cfg(any(feature = "dpop", feature = "session"))]
pub(crate) use self::key::digest_of;
pub(crate) use self::{
    entry::CacheHit,
    in_flight::PendingCheck,
    key::{Binding, Key, KeySpace, Thumbprint},
    lease::Lease,
};
use self::{
    epoch::Epochs,
    hot::{HotCache, Tag},
    in_flight::{InFlight, Purpose, Standing},
    memory::Memory,
    tier::{Claim, Contact, Sight, Tier},
};

/// Of how many old values it is known which value they stand for.
const MAX_ALIASES: u64 = 100_000;

/// Old values stand for new ones for a minute at most.
pub(crate) const LONGEST_ALIAS: Duration = Duration::from_secs(60);

pub(crate) struct TokenStore {
    keys: KeySpace,
    clock: Clock,
    epochs: Arc<Epochs>,
    /// `None` if nothing is kept.
    cache: Option<(HotCache, Memory)>,
    /// With the epoch of their bucket. Made for the first alias, since most layers rotate no values.
    aliases: OnceLock<Cache<Key, (u64, Arc<Alias>)>>,
    in_flight: Mutex<InFlight>,
    room: Arc<Semaphore>,
    tier: Option<Arc<dyn Tier>>,
    contact: Arc<Contact>,
}

/// The newer value that an old one stands for.
pub(crate) struct Alias {
    pub(crate) key: Key,
    pub(crate) value: Secret,
    pub(crate) until: Moment,
}

/// How new a verdict has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtLeast {
    /// What is cached will do.
    Cached,
    /// A call that is under way will do.
    UnderWay,
    /// Authlete has to be asked from now on.
    New,
}

/// What to do about a token of which not enough is known.
pub(crate) enum CheckJoin {
    /// It is known meanwhile.
    Known(Verdict),
    /// Somebody asks already.
    Wait(Arc<PendingCheck>),
    /// Nobody asks yet.
    Lead(Lead),
    /// Too many ask.
    Full,
}

impl TokenStore {
    /// A store for tokens whose keys are of this space, with room for so many calls.
    pub(crate) fn new(
        keys: KeySpace,
        clock: Clock,
        policy: CachePolicy,
        epochs: Arc<Epochs>,
        max_calls: usize,
        shared: Option<(Arc<dyn Tier>, Arc<Contact>)>,
    ) -> Self {
        let (tier, contact) = match shared {
            Some((tier, contact)) => (Some(tier), contact),
            None => (None, Arc::new(Contact::unneeded())),
        };
        let hot = || HotCache::new(policy.max_entries, epochs.clone());
        let memory = || Memory::new(policy, epochs.clone(), contact.clone());
        let cache = (!policy.caches_nothing()).then(|| (hot(), memory()));
        Self {
            keys,
            clock,
            epochs,
            cache,
            aliases: OnceLock::new(),
            in_flight: Mutex::new(InFlight::new()),
            room: Arc::new(Semaphore::new(max_calls.min(Semaphore::MAX_PERMITS))),
            tier,
            contact,
        }
    }

    /// The key of an access token.
    pub(crate) fn key(&self, token: impl AsRef<[u8]>) -> Key {
        self.keys.key(token)
    }

    /// The key of an access token that is presented, and what is known of it. A value that stands for a newer
    /// one has what is known of that.
    #[inline]
    pub(crate) fn look_up(
        &self,
        token: impl AsRef<[u8]>,
        binding: Binding,
        now: Moment,
    ) -> (Key, Option<CacheHit>) {
        let Some((hot, memory)) = &self.cache else { return (self.key(token), None) };
        let tag = hot.tag(&token);
        // Before the copy's epoch: a loss of contact ends the use of copies before there is contact again.
        let in_contact = self.contact.lasts(now);
        let copy = hot.get(tag, |key, entry| {
            let usable = entry.is_of(binding) && entry.is_valid(now) && in_contact;
            usable.then(|| (*key, memory.hit(key, entry, now)))
        });
        match copy {
            Some((key, hit)) => (key, Some(hit)),
            None => self.look_up_original(self.key(token), tag, binding, now),
        }
    }

    /// The same of a token of which there is no copy.
    #[inline(never)]
    fn look_up_original(
        &self,
        key: Key,
        tag: Tag,
        binding: Binding,
        now: Moment,
    ) -> (Key, Option<CacheHit>) {
        let Some((hot, memory)) = &self.cache else { return (key, None) };
        let epoch = self.epochs.of_copies(&key);
        let Some(entry) = memory.valid(&key, binding, now) else {
            return (key, self.look_up_negative(&key, binding, now));
        };
        let mut hit = memory.hit(&key, &entry, now);
        match memory.doubted_until(&entry, now) {
            Some(end) => hit.needs_refresh |= self.contact.refresh(&key, end) <= now.monotonic,
            None => hot.offer(epoch, tag, &key, entry),
        }
        (key, Some(hit))
    }

    fn look_up_negative(&self, key: &Key, binding: Binding, now: Moment) -> Option<CacheHit> {
        let (_, memory) = self.cache.as_ref()?;
        let verdict = match self.alias(key, binding) {
            Some(alias) => Ok(memory.get(&alias.key, binding, now)?.ok()?),
            None => Err(memory.rejection(key, binding, now)?),
        };
        Some(CacheHit { verdict, needs_refresh: false })
    }

    /// What is known of a token, whatever it stands for.
    pub(crate) fn get(&self, key: &Key, binding: Binding) -> Option<Verdict> {
        self.cache.as_ref()?.1.get(key, binding, self.clock.moment())
    }

    /// The facts of a good token whose age ended no longer ago than this.
    pub(crate) fn stale(&self, key: &Key, binding: Binding, up_to: Duration) -> Option<TokenInfo> {
        self.cache.as_ref()?.1.stale(key, binding, up_to, self.clock.moment())
    }

    /// The newer value that this one stands for, of a token that is presented without a proof.
    pub(crate) fn alias(&self, key: &Key, binding: Binding) -> Option<Arc<Alias>> {
        let (epoch, alias) = self.aliases.get()?.get(key).filter(|_| binding.key.is_none())?;
        let current = epoch == self.epochs.of_bucket(key);
        (current && !alias.until.is_past(self.clock.moment())).then_some(alias)
    }

    /// With the lock held.
    fn begin_alias(&self, key: Key, alias: Alias) {
        let new = || Cache::builder().max_capacity(MAX_ALIASES).time_to_live(LONGEST_ALIAS).build();
        let epoch = self.epochs.of_bucket(&key);
        self.aliases.get_or_init(new).insert(key, (epoch, Arc::new(alias)));
    }

    /// With the lock held.
    fn end_alias(&self, key: &Key) {
        self.aliases.get().into_iter().for_each(|aliases| aliases.invalidate(key));
    }

    /// What processes share, if facts may be kept at all.
    pub(crate) fn tier(&self) -> Option<&Arc<dyn Tier>> {
        self.tier.as_ref().filter(|_| self.cache.is_some())
    }

    /// Whether this process does not hear of what others invalidate.
    pub(crate) fn is_isolated(&self) -> bool {
        !self.contact.lasts(self.clock.moment())
    }

    /// Whether this process is the one that does this about a token for a while.
    pub(crate) async fn claims(&self, key: &Key, purpose: Claim) -> bool {
        match &self.tier {
            Some(tier) => tier.claim(key, purpose).await,
            None => true,
        }
    }

    /// Since when any process knows a token, of which this one does since then. That is kept for `keep`.
    pub(crate) async fn first_seen(
        &self,
        key: &Key,
        sight: Sight,
        since: Moment,
        keep: Duration,
    ) -> Moment {
        let Some(tier) = &self.tier else { return since };
        let now = self.clock.moment();
        let known = tier.first_seen(key, sight, since.elapsed(now), keep).await;
        known.map_or(since, |known| since.min(now.before(known)))
    }

    /// Whether other processes may know a token for longer.
    pub(crate) fn is_shared(&self) -> bool {
        self.tier.is_some()
    }

    /// Whether all that was invalidated before has reached the tier.
    pub(crate) async fn has_reached_all(&self) -> bool {
        match &self.tier {
            Some(tier) => tier.reached().await,
            None => false,
        }
    }

    /// This moment, by the layer's clock.
    pub(crate) fn now(&self) -> Moment {
        self.clock.moment()
    }

    /// Whether facts that were decided at this moment are to be asked for again soon.
    pub(crate) fn is_due(&self, decided: Moment) -> bool {
        let now = self.clock.moment();
        self.cache.as_ref().is_none_or(|(_, memory)| memory.is_due(decided, now))
    }

    /// For how long facts of this moment can be kept from now on.
    pub(crate) fn left(&self, decided: Moment) -> Duration {
        let now = self.clock.moment();
        self.cache.as_ref().map_or(Duration::ZERO, |(_, memory)| memory.left(decided, now))
    }

    /// How many good tokens are known, roughly.
    pub(crate) fn len(&self) -> u64 {
        self.cache.as_ref().map_or(0, |(_, memory)| memory.len())
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease of a token: void once that is invalidated.
    pub(crate) fn lease(&self, key: Key) -> Arc<Lease> {
        self.epochs.lease(key)
    }

    /// Joins a call about a token, or leads one, unless it is known by now.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: Key,
        binding: Binding,
        at_least: AtLeast,
    ) -> CheckJoin {
        let mut in_flight = self.lock();
        let now = self.clock.moment();
        let memory = self.cache.as_ref().map(|(_, memory)| memory);
        let Some(memory) = memory.filter(|_| at_least != AtLeast::New) else {
            return self.lead(&mut in_flight, key, Purpose::Alone(binding), now);
        };
        // What an answer told that issued the token is not enough: that was looked at before.
        let complete = |known: &Verdict| known.as_ref().map_or(true, TokenInfo::is_complete);
        if at_least == AtLeast::Cached
            && let Some(known) = memory.get(&key, binding, now).filter(complete)
        {
            return CheckJoin::Known(known);
        }
        match in_flight.join(&key, binding, |started| memory.is_new_enough(started, now)) {
            Some(check) => CheckJoin::Wait(check),
            None => self.lead(&mut in_flight, key, Purpose::Shared(binding), now),
        }
    }

    fn lead(
        self: &Arc<Self>,
        in_flight: &mut InFlight,
        key: Key,
        purpose: Purpose,
        now: Moment,
    ) -> CheckJoin {
        let Ok(room) = self.room.clone().try_acquire_owned() else { return CheckJoin::Full };
        let (check, sender) = in_flight.start(key, purpose, self.epochs.lease(key), now);
        CheckJoin::Lead(Lead { store: self.clone(), key, check, sender, _room: room })
    }

    /// An update of a token that is about to be sent.
    pub(crate) fn begin_update(self: &Arc<Self>, key: Key) -> Update {
        self.update_in(&mut self.lock(), key)
    }

    /// The same after a check, unless the token was invalidated since that started.
    pub(crate) fn begin_update_after(
        self: &Arc<Self>,
        key: Key,
        check: &PendingCheck,
    ) -> Option<Update> {
        let mut in_flight = self.lock();
        (!check.is_invalidated()).then(|| self.update_in(&mut in_flight, key))
    }

    fn update_in(self: &Arc<Self>, in_flight: &mut InFlight, key: Key) -> Update {
        let (lease, now) = (self.epochs.lease(key), self.clock.moment());
        let (call, _) = in_flight.start(key, Purpose::Update, lease, now);
        Update { store: self.clone(), key, call }
    }

    /// Nothing that was learnt of the token before is used from now on, and soon in no other process.
    pub(crate) fn invalidate(&self, key: Key) {
        self.invalidate_elsewhere(key);
        self.invalidate_here(key);
    }

    /// The same in this process alone.
    pub(crate) fn invalidate_here(&self, key: Key) {
        self.invalidate_in(&mut self.lock(), &key);
    }

    /// The same in all processes but this one. It comes before that here: until it has reached the tier, nothing
    /// about the token is loaded from there.
    fn invalidate_elsewhere(&self, key: Key) {
        if let Some(tier) = &self.tier {
            tier.invalidate(key);
        }
    }

    /// Nothing that was learnt of the token in this process is used from now on, and it is known to be rejected
    /// as a bearer token.
    pub(crate) fn reject(&self, key: Key, rejection: &Rejection) {
        let mut in_flight = self.lock();
        self.invalidate_in(&mut in_flight, &key);
        if let Some((_, memory)) = &self.cache {
            memory.put_rejection(key, Binding::BEARER, rejection, self.clock.moment());
        }
    }

    fn invalidate_in(&self, in_flight: &mut InFlight, key: &Key) {
        in_flight.remove(key);
        self.end_alias(key);
        if let Some((_, memory)) = &self.cache {
            memory.remove(key);
        }
        // Leases are taken without the lock: who takes one from now on finds nothing from before.
        self.epochs.end_lease(key);
    }

    /// Nothing that was learnt of any token before is used from now on, and soon in no other process.
    pub(crate) fn invalidate_all(&self) {
        if let Some(tier) = &self.tier {
            tier.invalidate_all();
        }
        self.invalidate_all_here();
    }

    /// What was learnt before may have been invalidated unheard.
    #[cfg(feature = "redis")]
    pub(crate) fn doubt_all(&self) {
        let _in_flight = self.lock();
        self.contact.lose(self.clock.moment());
        self.epochs.end_all_copies();
    }

    /// The same in this process alone.
    pub(crate) fn invalidate_all_here(&self) {
        self.invalidate_buckets(|_| true);
        if let Some((hot, memory)) = &self.cache {
            memory.clear();
            hot.clear();
        }
    }

    /// Nothing that was learnt of any token of a bucket before is used in this process from now on.
    #[cfg(feature = "redis")]
    pub(crate) fn invalidate_bucket_here(&self, bucket: usize) {
        self.invalidate_buckets(|it| it == bucket);
    }

    fn invalidate_buckets(&self, of: impl Fn(usize) -> bool) {
        let mut in_flight = self.lock();
        in_flight.remove_where(|key| of(key.bucket()));
        self.epochs.invalidate(of);
    }

    /// Noted before a token is issued.
    pub(crate) fn begin_issue(&self) -> PendingIssue {
        PendingIssue { started: self.clock.moment(), epoch: self.epochs.of_issues() }
    }

    /// What answers tell is not kept that issue a token and are under way: it may be one of those that are
    /// revoked now.
    pub(crate) fn invalidate_issues(&self) {
        let _in_flight = self.lock();
        self.epochs.invalidate_issues();
    }

    /// Keeps what was told of a token when it was issued, which is a bearer token beyond doubt. What is known
    /// by asking is better, and stays.
    pub(crate) fn remember(&self, key: Key, issued: &TokenInfo, issue: PendingIssue) {
        let Some((_, memory)) = &self.cache else { return };
        let (started, since) = (issue.started, issue.started.monotonic);
        let entry = memory.entry(&key, issued, Binding::BEARER, started, since);
        let mut in_flight = self.lock();
        let known = memory.get(&key, Binding::BEARER, self.clock.moment()).and_then(Result::ok);
        if known.is_some_and(|known| known.is_complete()) {
            return;
        }
        // It may have been asked about before it existed.
        self.invalidate_in(&mut in_flight, &key);
        if self.epochs.of_issues() == issue.epoch {
            memory.put(key, entry);
        }
    }
}

/// An answer under way that issues a token.
#[derive(Clone, Copy)]
pub(crate) struct PendingIssue {
    /// From when the age of what it tells counts.
    pub(crate) started: Moment,
    epoch: u64,
}

/// The leader of a check, for which there is room. Dropped, it tells those who wait that it broke off.
pub(crate) struct Lead {
    store: Arc<TokenStore>,
    key: Key,
    check: Arc<PendingCheck>,
    sender: watch::Sender<Option<Verdict>>,
    _room: OwnedSemaphorePermit,
}

impl Lead {
    pub(crate) fn check(&self) -> &Arc<PendingCheck> {
        &self.check
    }

    /// Whether somebody waits for the verdict.
    pub(crate) fn is_waited_for(&self) -> bool {
        // The call has a receiver itself.
        self.sender.receiver_count() > 1
    }

    /// Keeps the verdict as far as it may be kept, and tells it to all who wait.
    pub(crate) fn complete(self, verdict: Verdict) {
        let decided = self.check.about.started;
        self.complete_as_of(decided, verdict);
    }

    /// The same for one that Authlete was asked for at this moment.
    pub(crate) fn complete_as_of(self, decided: Moment, verdict: Verdict) {
        let store = &*self.store;
        let verdict = verdict.and_then(|token| self.still_good(token));
        let binding = self.check.binding();
        let memory = store.cache.as_ref().map(|(_, memory)| memory);
        let since = self.check.started().monotonic;
        let entry = |token| {
            memory.and_then(|memory| memory.entry(&self.key, token, binding, decided, since))
        };
        let entry = verdict.as_ref().ok().and_then(entry);
        let mut in_flight = store.lock();
        let standing = in_flight.end(&self.key, &self.check);
        let learns = verdict::is_one(&verdict) && standing != Standing::Invalidated;
        if let Some(memory) = memory.filter(|_| learns) {
            in_flight.supersede(&self.key, verdict.is_err().then_some(binding));
            match &verdict {
                // Older facts are not kept in place of a newer rejection, nor of newer facts.
                Ok(_) if standing == Standing::Superseded => {
                    memory.outdate(&self.key, store.clock.moment());
                }
                Ok(_) => memory.put(self.key, entry),
                Err(rejection) => memory.put_rejection(self.key, binding, rejection, decided),
            }
        }
        drop(in_flight);
        // Waiters wake without the lock.
        self.sender.send_replace(Some(verdict));
    }

    /// Whether a token that had not expired by this clock when the call started has not done so since. One
    /// that had is good by a clock that goes after this one.
    fn still_good(&self, token: TokenInfo) -> Verdict {
        let now = self.store.clock.now_millis();
        if token.is_past(now) && !token.is_past(self.check.about.started.wall) {
            return Err(Rejection::invalid_token("the access token has expired"));
        }
        Ok(token)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.store.lock().end(&self.key, &self.check);
    }
}

/// An update of a token under way. Dropped, it changes nothing of what is known.
pub(crate) struct Update {
    store: Arc<TokenStore>,
    key: Key,
    call: Arc<PendingCheck>,
}

impl Update {
    /// Whether no other update of the token is under way, nor was committed since this one began.
    pub(crate) fn is_only_one(&self) -> bool {
        self.store.lock().updates(&self.key) == 1
    }

    /// Whether the token was not invalidated since it began.
    pub(crate) fn is_current(&self) -> bool {
        !self.call.is_invalidated()
    }

    /// Refreshes what is known of the token by what the update has made of its facts, under the value that it
    /// has from now on, for which the old one can stand. If anything else was learnt of the token meanwhile,
    /// nobody knows which is newer, and nothing is known. If the token was invalidated, nothing is known of the
    /// new value, either.
    pub(crate) fn commit(
        &self,
        new: Key,
        alias: Option<Alias>,
        change: impl FnOnce(&TokenInfo, Binding) -> Option<TokenInfo>,
    ) {
        self.store.invalidate_elsewhere(self.key);
        let mut in_flight = self.store.lock();
        let standing = in_flight.end(&self.key, &self.call);
        for key in [self.key, new] {
            in_flight.remove(&key);
        }
        self.store.end_alias(&self.key);
        if let Some(alias) = alias.filter(|_| standing != Standing::Invalidated) {
            self.store.begin_alias(self.key, alias);
        }
        self.change(new, standing, change);
        for key in [self.key, new] {
            self.store.epochs.end_lease(&key);
        }
    }

    /// The same for a longer life, which makes no verdict wrong that is being asked for: it tells of less of
    /// it, and is not kept in place of this.
    pub(crate) fn commit_extension(
        &self,
        change: impl FnOnce(&TokenInfo, Binding) -> Option<TokenInfo>,
    ) {
        self.store.invalidate_elsewhere(self.key);
        let mut in_flight = self.store.lock();
        let standing = in_flight.end(&self.key, &self.call);
        in_flight.supersede(&self.key, None);
        self.change(self.key, standing, change);
    }

    /// With the lock held.
    fn change(
        &self,
        new: Key,
        standing: Standing,
        change: impl FnOnce(&TokenInfo, Binding) -> Option<TokenInfo>,
    ) {
        let Some((_, memory)) = &self.store.cache else { return };
        let change = |known: &TokenInfo, binding| {
            (standing == Standing::Current).then(|| change(known, binding)).flatten()
        };
        memory.update(&self.key, new, self.store.clock.moment(), change);
    }
}

impl Drop for Update {
    fn drop(&mut self) {
        self.store.lock().end(&self.key, &self.call);
    }
}

#[cfg(test)]
#[cfg(not(model))]
mod tests;
