//! Calls under way, and what becomes of their answers.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{Asked, Presented, Verifier, changes::Change};
use crate::{
    cache::{Flight, Holder, Key, Standing, Table},
    rejection::Rejection,
    token::TokenInfo,
    verdict::{self, Answer, is_gone},
};

/// A call that takes itself off the table of flights, whatever becomes of it.
pub(super) struct Landing {
    pub(super) verifier: Arc<Verifier>,
    pub(super) key: Key,
    pub(super) holder: Holder,
    pub(super) flight: Arc<Flight<Asked>>,
    pub(super) sender: watch::Sender<Option<Asked>>,
    /// Its place among the calls under way.
    pub(super) _room: OwnedSemaphorePermit,
}

impl Landing {
    pub(super) async fn fly(self, presented: Presented) {
        let verifier = &*self.verifier;
        let deadline = verifier.caller.deadline_of_extension();
        let answer = verifier.call(&presented).await;
        let extender = verifier.extender.as_ref();
        let wanted = extender.zip(answer.as_ref().ok()).and_then(|(extender, info)| {
            let now = verifier.clock.now();
            extender.seen(&self.key, now);
            let until = extender.wants(&self.key, info, now)?;
            Some((extender, until, extender.leave(self.key, now)?))
        });
        let token = presented.token();
        match wanted {
            None => self.land(answer),
            Some((extender, until, _leave)) if extender.waits() => {
                // Who waits for it does not wait for longer than for a check.
                let extended = deadline.wait(self.extended(token, until, answer.clone())).await;
                self.land(extended.unwrap_or(answer));
            }
            Some((_, until, _leave)) => {
                let Some(change) = self.land_and_change(answer) else { return };
                match verifier.extend(token, until, &self.key, &change.flight).await {
                    Some((_, response)) if is_gone(&response) => verifier.forget(token),
                    Some((request, response)) => {
                        verifier.write_through(&change, self.key, &request, &response);
                    }
                    None => {}
                }
            }
        }
    }

    /// The answer after the token was extended.
    async fn extended(&self, token: &str, until: SystemTime, answer: Answer) -> Answer {
        let extended = self.verifier.extend(token, until, &self.key, &self.flight).await;
        let Some((request, response)) = extended else { return answer };
        // What set out before the update does not know of it.
        self.verifier.flights.lock().forget_others(&self.key, &self.flight);
        if is_gone(&response) {
            return Err(Rejection::invalid_token("the access token does not exist"));
        }
        let info = answer?;
        Ok(info.updated(&request, &response).unwrap_or(info))
    }

    fn land(&self, answer: Answer) {
        self.land_in(&mut self.verifier.flights.lock(), answer);
        self.wake();
    }

    /// Lands, and begins a change of the token, unless it was changed or forgotten before.
    fn land_and_change(&self, answer: Answer) -> Option<Change<'_>> {
        let mut flights = self.verifier.flights.lock();
        let stands = self.land_in(&mut flights, answer) != Standing::Forgotten;
        let change = stands.then(|| self.verifier.change_in(&mut flights, self.key));
        drop(flights);
        self.wake();
        change
    }

    /// Wakes who waits, without the lock, which they need.
    fn wake(&self) {
        self.sender.send_modify(|_| ());
    }

    /// Whether a token that had not expired by our clock when the call set out has not done so since.
    /// One that had is good by a clock that goes after ours.
    fn still_good(&self, token: TokenInfo) -> Answer {
        let now = self.verifier.clock.now_millis();
        if token.is_past(now) && !token.is_past(self.flight.departed.wall) {
            return Err(Rejection::invalid_token("the access token has expired"));
        }
        Ok(token)
    }

    fn land_in(&self, flights: &mut Table<Asked>, answer: Answer) -> Standing {
        let answer = answer.and_then(|token| self.still_good(token));
        let standing = flights.land(&self.key, &self.flight);
        let learns = verdict::is_one(&answer) && standing != Standing::Forgotten;
        if let Some(cache) = self.verifier.cache.as_ref().filter(|_| learns) {
            flights.overtake(&self.key, answer.is_err().then_some(self.holder));
            if standing == Standing::Overtaken && answer.is_ok() {
                // An older yes must not be kept in place of a newer no, nor of a newer yes.
                cache.outdate(&self.key, self.verifier.clock.moment());
            } else {
                cache.put(self.key, self.holder, &answer, self.flight.departed);
            }
        }
        // Told under the lock: a flight that is not on the table has told, or was forgotten.
        let landed = flights.landed(&self.key, standing, answer);
        self.sender.send_if_modified(|told| {
            *told = Some(landed);
            false
        });
        standing
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.verifier.flights.lock().land(&self.key, &self.flight);
    }
}
