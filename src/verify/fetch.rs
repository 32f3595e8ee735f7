//! What is not known is asked for: by the task of a leader, for all who wait.

use std::sync::Arc;

use super::shared::{self, Consulted};
use crate::{
    introspect::{Presented, Remote},
    store::{AtLeast, CheckJoin, Lead, PendingCheck, TokenStore},
    verdict::Verdict,
};

/// What became of wanting to know about a token.
pub(crate) enum Fetch {
    /// It is known meanwhile.
    Known(Verdict),
    /// Somebody asks already.
    Joined(Arc<PendingCheck>),
    Started(Arc<PendingCheck>),
    /// Too many ask.
    Full,
}

/// Joins a check of a token, or starts one.
pub(crate) fn fetch(
    store: &Arc<TokenStore>,
    remote: &Arc<dyn Remote>,
    presented: &Arc<Presented>,
    at_least: AtLeast,
) -> Fetch {
    match store.join(presented.key, presented.binding, at_least) {
        CheckJoin::Known(verdict) => Fetch::Known(verdict),
        CheckJoin::Wait(check) => Fetch::Joined(check),
        CheckJoin::Full => Fetch::Full,
        CheckJoin::Lead(lead) => {
            let check = lead.check().clone();
            presented.note_sent(&check);
            // A task of its own: a request that goes away does not take the verdict of others with it. The
            // store's lock is not held here: a runtime that is shutting down drops the task at once, and that
            // takes the lock.
            let (store, remote) = (store.clone(), remote.clone());
            let task = FetchTask { lead, store, remote, presented: presented.clone(), at_least };
            tokio::spawn(task.run());
            Fetch::Started(check)
        }
    }
}

/// The same in the background; `None` if there is nothing to wait for.
pub(crate) fn revalidate(
    store: &Arc<TokenStore>,
    remote: &Arc<dyn Remote>,
    presented: &Arc<Presented>,
) -> Option<Arc<PendingCheck>> {
    match fetch(store, remote, presented, AtLeast::UnderWay) {
        Fetch::Joined(check) | Fetch::Started(check) => Some(check),
        Fetch::Known(_) | Fetch::Full => None,
    }
}

/// The work of a leader.
struct FetchTask {
    lead: Lead,
    store: Arc<TokenStore>,
    remote: Arc<dyn Remote>,
    presented: Arc<Presented>,
    at_least: AtLeast,
}

impl FetchTask {
    /// Takes what other processes know, or asks Authlete and shares what that tells.
    async fn run(self) {
        let Self { lead, store, remote, presented, at_least } = self;
        let stamp = match shared::consult(&store, &lead, &presented, at_least).await {
            Consulted::Known(decided, verdict) => return lead.complete_as_of(decided, verdict),
            Consulted::Unknown(stamp) => stamp,
        };
        // It matters for tokens with a proof only.
        let known = || store.get(&presented.key, presented.binding);
        let known_good = presented.has_proof() && known().is_some_and(|known| known.is_ok());
        let verdict = remote.introspect(&presented, known_good).await;
        let facts = stamp.zip(verdict.as_ref().ok().cloned());
        let decided = lead.check().started();
        lead.complete(verdict);
        if let Some((stamp, token)) = facts {
            shared::share(&store, &presented, &token, decided, &stamp).await;
        }
    }
}
