//! The calls under way about tokens, and what they may still do when they end. Without a lock of its own:
//! the [store](super::TokenStore) has it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    key::{Binding, Key},
    lease::Lease,
};
use crate::{
    clock::Moment,
    single_flight::{Call, Table},
    verdict::{self, Verdict},
};

/// A call to Authlete about a token, whose verdict is for all who wait for it.
pub(crate) type PendingCheck = Call<Verdict, About>;

/// What a call is about.
pub(crate) struct About {
    purpose: Purpose,
    lease: Arc<Lease>,
    /// What it tells may have been decided at this moment.
    pub(crate) started: Moment,
    /// Something was learnt of the token since, and nobody knows which is newer.
    superseded: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A check, which others with the same binding may join.
    Shared(Binding),
    /// A check for one request.
    Alone(Binding),
    /// An update of the token.
    Update,
}

impl Purpose {
    /// Whether what is learnt of a token may be newer than what such a call will tell. Facts are about the
    /// token, a rejection only about who presented it.
    fn is_superseded(self, by_rejection_of: Option<Binding>) -> bool {
        match self {
            Self::Shared(binding) | Self::Alone(binding) => {
                by_rejection_of.is_none_or(|rejected| rejected == binding)
            }
            Self::Update => true,
        }
    }
}

/// What the outcome of a call is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing else was learnt since it started.
    Current,
    /// Something else was, and nobody knows which is newer.
    Superseded,
    /// Its token was invalidated since: it is good for nothing.
    Invalidated,
}

impl PendingCheck {
    /// With which binding the token is presented.
    pub(crate) fn binding(&self) -> Binding {
        match self.about.purpose {
            Purpose::Shared(binding) | Purpose::Alone(binding) => binding,
            Purpose::Update => Binding::BEARER,
        }
    }

    /// Waits for the verdict; `None` if the token was invalidated meanwhile.
    pub(crate) async fn verdict(&self) -> Option<Verdict> {
        let told = self.outcome().await;
        // It broke off.
        let verdict = told.unwrap_or_else(|| Err(verdict::unknown()));
        (!self.is_invalidated()).then_some(verdict)
    }

    /// When it started.
    pub(crate) fn started(&self) -> Moment {
        self.about.started
    }

    /// Whether it started so little time ago.
    pub(crate) fn is_recent(&self, within: Duration, now: Moment) -> bool {
        self.about.started.elapsed(now) <= within
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.about.lease
    }

    /// Whether the token was invalidated since it started.
    pub(crate) fn is_invalidated(&self) -> bool {
        self.about.lease.is_void()
    }
}

pub(super) struct InFlight(Table<Key, Verdict, About>);

/// A call, and the sender that tells its verdict.
pub(super) type Started = (Arc<PendingCheck>, watch::Sender<Option<Verdict>>);

impl InFlight {
    pub(super) fn new() -> Self {
        Self(Table::new())
    }

    /// The last call that others may join, if that started late enough.
    pub(super) fn join(
        &self,
        key: &Key,
        binding: Binding,
        late_enough: impl Fn(Moment) -> bool,
    ) -> Option<Arc<PendingCheck>> {
        let shared = |call: &About| call.purpose == Purpose::Shared(binding);
        self.0.join(key, |call| shared(call) && late_enough(call.started))
    }

    pub(super) fn start(
        &mut self,
        key: Key,
        purpose: Purpose,
        lease: Arc<Lease>,
        started: Moment,
    ) -> Started {
        let superseded = AtomicBool::new(false);
        self.0.start(key, About { purpose, lease, started, superseded })
    }

    /// Removes a call, and tells what its outcome is good for.
    pub(super) fn end(&mut self, key: &Key, call: &Arc<PendingCheck>) -> Standing {
        if !self.0.remove(key, call) {
            Standing::Invalidated
        } else if call.about.superseded.load(Ordering::Relaxed) {
            Standing::Superseded
        } else {
            Standing::Current
        }
    }

    /// How many updates of a token are under way.
    pub(super) fn updates(&self, key: &Key) -> usize {
        self.0.of(key).filter(|call| call.about.purpose == Purpose::Update).count()
    }

    /// Something is learnt of a token by other means than the calls that are under way: that a request with
    /// this binding is rejected, or facts.
    pub(super) fn supersede(&self, key: &Key, by_rejection_of: Option<Binding>) {
        let calls = self.0.of(key).map(|call| &call.about);
        let superseded = calls.filter(|call| call.purpose.is_superseded(by_rejection_of));
        superseded.for_each(|call| call.superseded.store(true, Ordering::Relaxed));
    }

    /// Removes all calls about a token that is invalidated.
    pub(super) fn remove(&mut self, key: &Key) {
        self.0.remove_all_of(key);
    }

    pub(super) fn remove_where(&mut self, of: impl Fn(&Key) -> bool) {
        self.0.remove_where(of);
    }
}
