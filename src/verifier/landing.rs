//! Calls under way, and what becomes of their answers.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Asked, Presented, Verifier};
use crate::{
    cache::{Binding, Flight, Key, Standing, Table},
    rejection::Rejection,
    token::TokenInfo,
    verdict::{self, Verdict},
};

/// A call that takes itself off the table of flights, whatever becomes of it.
pub(super) struct Landing {
    pub(super) verifier: Arc<Verifier>,
    pub(super) key: Key,
    pub(super) binding: Binding,
    pub(super) flight: Arc<Flight<Asked>>,
    pub(super) sender: watch::Sender<Option<Asked>>,
    /// Its place among the calls under way.
    pub(super) _room: OwnedSemaphorePermit,
}

impl Landing {
    pub(super) async fn fly(self, presented: Arc<Presented>) {
        let verifier = &*self.verifier;
        let answer = verifier.call(&presented).await;
        if answer.is_ok() && verifier.extender.is_some() {
            verifier.lineages.first_seen(&self.key, verifier.clock.moment());
        }
        self.land_in(&mut verifier.flights.lock(), answer);
        self.wake();
    }

    /// Wakes who waits, without the lock, which they need.
    fn wake(&self) {
        self.sender.send_modify(|_| ());
    }

    /// Whether a token that had not expired by our clock when the call set out has not done so since.
    /// One that had is good by a clock that goes after ours.
    fn still_good(&self, token: TokenInfo) -> Verdict {
        let now = self.verifier.clock.now_millis();
        if token.is_past(now) && !token.is_past(self.flight.departed.wall) {
            return Err(Rejection::invalid_token("the access token has expired"));
        }
        Ok(token)
    }

    fn land_in(&self, flights: &mut Table<Asked>, answer: Verdict) {
        let answer = answer.and_then(|token| self.still_good(token));
        let standing = flights.land(&self.key, &self.flight);
        let learns = verdict::is_one(&answer) && standing != Standing::Forgotten;
        if let Some(cache) = self.verifier.cache.as_ref().filter(|_| learns) {
            flights.overtake(&self.key, answer.is_err().then_some(self.binding));
            if standing == Standing::Overtaken && answer.is_ok() {
                // An older yes must not be kept in place of a newer no, nor of a newer yes.
                cache.outdate(&self.key, self.verifier.clock.moment());
            } else {
                cache.put(self.key, self.binding, &answer, self.flight.departed);
            }
        }
        // Told under the lock: a flight that is not on the table has told, or was forgotten.
        let landed = flights.landed(&self.key, standing, answer);
        self.sender.send_if_modified(|told| {
            *told = Some(landed);
            false
        });
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.verifier.flights.lock().land(&self.key, &self.flight);
    }
}
