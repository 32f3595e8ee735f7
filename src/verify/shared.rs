//! What the processes of a fleet know together: a leader looks there before it asks Authlete, and shares what
//! that tells.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Moment,
    introspect::Presented,
    store::{
        AtLeast, Lead, TokenStore,
        tier::{Claim, Shared, SharedFacts, Stamp},
    },
    token::TokenInfo,
    verdict::Verdict,
};

/// How long a revalidation waits for what another process learns before it looks again.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of a token in other processes.
pub(super) enum Consulted {
    /// Enough, as of this moment.
    Known(Moment, Verdict),
    /// Too little: Authlete is to be asked. With a stamp, what that tells can be shared.
    Unknown(Option<Stamp>),
}

/// Looks up what other processes know of the token of a leader.
pub(super) async fn consult(
    store: &Arc<TokenStore>,
    lead: &Lead,
    presented: &Presented,
    at_least: AtLeast,
) -> Consulted {
    let Some(tier) = store.tier().filter(|_| at_least != AtLeast::New) else {
        return Consulted::Unknown(None);
    };
    loop {
        let Presented { key, binding, .. } = presented;
        // The age is that at the load, however late its answer is read.
        let before = store.now();
        let Some(loaded) = tier.load(key, presented.token(), *binding).await else {
            return Consulted::Unknown(None);
        };
        if let Some((token, age)) = loaded.known {
            let decided = before.before(age);
            if is_enough(store, &token, decided, at_least) {
                return Consulted::Known(decided, Ok(token));
            }
        }
        if at_least == AtLeast::Cached || asks(store, lead, presented).await {
            return Consulted::Unknown(Some(loaded.stamp));
        }
        // Another process asks. What is known is good as long as it is valid.
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether facts of other processes can be used. They were asked for at the moment `decided`.
fn is_enough(store: &TokenStore, token: &TokenInfo, decided: Moment, at_least: AtLeast) -> bool {
    let is_valid = !store.left(decided).is_zero() && !token.is_past(store.now().wall);
    is_valid && (at_least == AtLeast::Cached || !store.is_due(decided))
}

/// Whether a revalidation is done by this process: if it has the claim, or somebody waits for what it tells.
async fn asks(store: &TokenStore, lead: &Lead, presented: &Presented) -> bool {
    let known = store.get(&presented.key, presented.binding);
    let needed = lead.is_waited_for() || known.is_none_or(|known| known.is_err());
    needed || store.claims(&presented.key, Claim::Revalidate).await
}

/// Shares the facts of a good token. An answer that was overtaken by an invalidation in another process is not
/// used here, either.
pub(super) async fn share(
    store: &Arc<TokenStore>,
    presented: &Presented,
    token: &TokenInfo,
    decided: Moment,
    stamp: &Stamp,
) {
    let Some(tier) = store.tier() else { return };
    let max_age = store.left(decided);
    if max_age.is_zero() || !token.is_complete() {
        return;
    }
    let Presented { key, binding, .. } = presented;
    let facts = SharedFacts { token, binding: *binding, max_age };
    if tier.share(key, presented.token(), facts, stamp).await == Shared::Invalidated {
        store.invalidate_here(*key);
    }
}
