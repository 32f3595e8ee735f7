//! The tier of one layer.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use redis::Script;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use super::{
    link::Link,
    names::{Names, unique},
    outbox::{FENCE, Outbox},
    scripts,
    seal::Sealer,
};
use crate::{
    api::Secret,
    clock::{CENTURY, Clock, span},
    observe::counters,
    rejection::Refuser,
    store::{
        Binding, Key, Thumbprint,
        tier::{Claim, Contact, Loaded, Reply, Shared, SharedFacts, Sight, Stamp, Tier},
    },
    token::{SharedToken, TokenInfo},
};

/// How long a process has to do what it does for all.
const CLAIM: Duration = Duration::from_secs(5);

/// What a layer shares with those of other processes.
pub(crate) struct RedisTier {
    pub(super) link: Arc<Link>,
    pub(super) names: Names,
    pub(super) sealer: Arc<Sealer>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) contact: Arc<Contact>,
    pub(super) clock: Clock,
    pub(super) refuser: Arc<Refuser>,
    /// By which API tokens are checked: each tells other facts.
    pub(super) check: &'static str,
    pub(super) origin: [u8; 16],
    pub(super) scripts: TierScripts,
    pub(super) readers: OnceLock<Vec<AbortHandle>>,
}

pub(super) struct TierScripts {
    load: Script,
    share: Script,
    claim: Script,
    first_seen: Script,
}

impl TierScripts {
    pub(super) fn new() -> Self {
        let [load, share, claim, first_seen] =
            [scripts::LOAD, scripts::SHARE, scripts::CLAIM, scripts::FIRST_SEEN].map(Script::new);
        Self { load, share, claim, first_seen }
    }
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed<C> {
    /// When Authlete was about to be asked (ms since the epoch, by Redis' clock).
    at: u64,
    check: C,
    /// The key by whose proof the token was presented.
    proof_key: Option<Thumbprint>,
    token: SharedToken,
}

impl RedisTier {
    /// What sealed facts belong to.
    fn context(key: &Key, generation: &[u8]) -> Vec<u8> {
        [&key.bytes()[..], generation].concat()
    }

    /// Reads what is shared. What is of another generation is not of this time.
    fn open(
        &self,
        key: &Key,
        token: &Secret,
        generation: &[u8],
        shared: &[u8],
    ) -> Option<Sealed<String>> {
        let sealed = shared.strip_prefix(generation)?;
        let context = Self::context(key, generation);
        let plain = self.sealer.open(token.expose().as_bytes(), &context, sealed).ok();
        let opened = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
        if opened.is_none() {
            counters::unreadable();
        }
        opened
    }

    async fn load(&self, key: &Key, token: &Secret, binding: Binding) -> Option<Loaded> {
        let names = self.names.token(key);
        let mut call = self.scripts.load.key(self.names.generation(names.bucket));
        call.key(names.fence()).key(names.facts()).arg(&unique());
        let (generation, fence, sealed, time): (Vec<u8>, Vec<u8>, Vec<u8>, u64) =
            self.link.call(&call).await?;
        let known = (!sealed.is_empty())
            .then(|| self.open(key, token, &generation, &sealed))
            .flatten()
            // Another holder's facts say nothing of this one, nor those of another API.
            .filter(|sealed| sealed.proof_key == binding.key && sealed.check == self.check)
            // A clock that was set back tells no age.
            .filter(|sealed| sealed.at <= time);
        let known = known.map(|sealed| {
            let token = TokenInfo::from(sealed.token).guarded(&self.refuser, key);
            (token, Duration::from_millis(time - sealed.at))
        });
        Some(Loaded { stamp: Stamp { generation, fence, time }, known })
    }

    async fn share(
        &self,
        key: &Key,
        token: &Secret,
        facts: SharedFacts<'_>,
        stamp: &Stamp,
    ) -> Option<bool> {
        let Stamp { generation, fence, time } = stamp;
        let sealed = Sealed {
            at: *time,
            check: self.check,
            proof_key: facts.binding.key,
            token: SharedToken::from(facts.token),
        };
        let plain = serde_json::to_vec(&sealed).ok()?;
        let context = Self::context(key, generation);
        let sealed = self.sealer.seal(token.expose().as_bytes(), &context, plain).ok()?;
        let names = self.names.token(key);
        let mut call = self.scripts.share.key(self.names.generation(names.bucket));
        call.key(names.fence()).key(names.facts());
        let life = facts.max_age.as_millis().clamp(1, u128::from(u64::MAX)) as u64;
        call.arg(generation).arg(fence).arg(*time).arg(FENCE / 2);
        call.arg([&generation[..], &sealed].concat()).arg(life);
        self.link.call(&call).await
    }

    async fn claim(&self, key: &Key, purpose: Claim) -> Option<bool> {
        let purpose = match purpose {
            Claim::Revalidate => "revalidate",
            Claim::Extend => "extend",
            Claim::Rotate => "rotate",
        };
        let mut call = self.scripts.claim.key(self.names.token(key).claim(purpose));
        call.arg(&self.origin).arg(CLAIM.as_millis() as u64);
        self.link.call(&call).await
    }

    async fn first_seen(
        &self,
        key: &Key,
        sight: Sight,
        known: Duration,
        keep: Duration,
    ) -> Option<Duration> {
        let of = match sight {
            Sight::Token => "token",
            Sight::Value => "value",
        };
        let mut call = self.scripts.first_seen.key(self.names.token(key).sight(of));
        call.arg(span(known.min(CENTURY))).arg(span(keep.min(CENTURY)).max(1));
        self.link.call(&call).await.map(Duration::from_millis)
    }

    /// A process that does not hear of invalidations neither loads nor shares.
    fn is_isolated(&self) -> bool {
        !self.contact.lasts(self.clock.moment())
    }
}

impl Tier for RedisTier {
    fn load<'t>(
        &'t self,
        key: &'t Key,
        token: &'t Secret,
        binding: Binding,
    ) -> Reply<'t, Option<Loaded>> {
        Box::pin(async move {
            // What was invalidated here is there until that has arrived.
            if self.is_isolated() || self.outbox.waits(key) {
                return None;
            }
            self.load(key, token, binding).await
        })
    }

    fn share<'t>(
        &'t self,
        key: &'t Key,
        token: &'t Secret,
        facts: SharedFacts<'t>,
        stamp: &'t Stamp,
    ) -> Reply<'t, Shared> {
        Box::pin(async move {
            if self.is_isolated() {
                return Shared::Unknown;
            }
            match self.share(key, token, facts, stamp).await {
                Some(true) => Shared::Done,
                Some(false) => Shared::Invalidated,
                None => Shared::Unknown,
            }
        })
    }

    fn claim<'t>(&'t self, key: &'t Key, purpose: Claim) -> Reply<'t, bool> {
        Box::pin(
            async move { self.is_isolated() || self.claim(key, purpose).await.unwrap_or(true) },
        )
    }

    fn first_seen<'t>(
        &'t self,
        key: &'t Key,
        sight: Sight,
        known: Duration,
        keep: Duration,
    ) -> Reply<'t, Option<Duration>> {
        Box::pin(self.first_seen(key, sight, known, keep))
    }

    fn invalidate(&self, key: Key) {
        self.outbox.invalidate(key);
    }

    fn invalidate_all(&self) {
        self.outbox.invalidate_all();
    }

    fn reached<'t>(&'t self) -> Reply<'t, bool> {
        Box::pin(self.outbox.is_sent())
    }
}

impl Drop for RedisTier {
    fn drop(&mut self) {
        self.readers.get().into_iter().flatten().for_each(AbortHandle::abort);
        self.outbox.close();
    }
}
