//! Who wants to know what is not known joins a call under way, or starts one.

use std::sync::Arc;

use super::{Asked, Presented, Resolved, Verifier, landing::Landing};
use crate::{
    cache::{Binding, Flight, Key, Purpose, Table},
    rejection::Rejection,
    token::TokenInfo,
    verdict::{self, Verdict},
};

/// Who keeps forgetting a token faster than Authlete answers gets no answer.
const ATTEMPTS: usize = 4;

/// What to do about a token that is not known well enough.
pub(super) enum Boarding {
    /// It has become known meanwhile.
    Known(Verdict),
    /// Somebody asks already.
    Join(Arc<Flight<Asked>>),
    /// Nobody asks yet.
    Start(Arc<Flight<Asked>>, Landing),
    /// Too many ask.
    Full,
}

impl Verifier {
    pub(super) async fn ask_now(
        self: &Arc<Self>,
        presented: &Arc<Presented>,
        fresh: bool,
    ) -> Resolved {
        let mut fresh = fresh;
        let deadline = self.caller.deadline();
        for attempt in 0..ATTEMPTS {
            let presented = self.by_current_value(presented);
            let mut joined = false;
            let flight = match self.board(&presented, fresh) {
                Boarding::Known(answer) => return Resolved::known(answer),
                Boarding::Join(flight) => {
                    joined = true;
                    flight
                }
                Boarding::Start(flight, landing) => {
                    // A task of its own, so that no request that goes away takes the others'
                    // answer with it. It is started after the lock is released, since a runtime
                    // that is shutting down drops it at once, and it then locks by itself.
                    presented.sent_by(&flight);
                    tokio::spawn(landing.fly(presented.clone()));
                    flight
                }
                Boarding::Full => return Resolved::known(Err(self.overloaded())),
            };
            let broken_off = || Err(verdict::unknown());
            let answer = || self.flights.answer(&presented.key, &flight, broken_off());
            // A call ends in time by itself, but one that sets out later does not. That is seldom: in a
            // box, it takes no room of those who wait.
            let answer = match attempt {
                0 => answer().await,
                _ => Box::pin(deadline.wait(answer())).await.unwrap_or_else(|| Some(broken_off())),
            };
            if let Some(answer) = answer {
                // The proof of who asked first may be at fault, and ours not.
                fresh |= joined && answer.as_ref().is_err_and(Rejection::is_of_proof);
                if !(joined && fresh) {
                    return Resolved::by(&flight, answer);
                }
            }
            // A proof is not sent twice: it would be taken for a replay.
            if !joined && presented.has_proof() {
                let known = self.known(&presented.key, presented.binding).filter(|_| !fresh);
                return Resolved::known(known.unwrap_or_else(|| Err(verdict::unknown())));
            }
        }
        Resolved::known(Err(verdict::unknown()))
    }

    pub(super) fn board(self: &Arc<Self>, presented: &Presented, fresh: bool) -> Boarding {
        let mut flights = self.flights.lock();
        let Presented { key, binding, .. } = *presented;
        if fresh || self.cache.is_none() {
            return self.start(&mut flights, key, binding, Purpose::Alone(binding));
        }
        // A flight may have landed since we last looked. What an issue told does not do: whether it
        // is enough was looked at before.
        let complete = |answer: &Verdict| answer.as_ref().map_or(true, TokenInfo::is_complete);
        if let Some(answer) = self.known(&key, binding).filter(complete) {
            return Boarding::Known(answer);
        }
        self.join(&mut flights, key, binding)
    }

    /// A flight that others may join, unless there is one whose answer will not be too old.
    pub(super) fn join(
        self: &Arc<Self>,
        flights: &mut Table<Asked>,
        key: Key,
        binding: Binding,
    ) -> Boarding {
        let purpose = Purpose::Shared(binding);
        let now = self.clock.moment();
        let young = |flight: &Arc<Flight<Asked>>| {
            self.cache.as_ref().is_none_or(|cache| cache.is_new_enough(flight.departed, now))
        };
        match flights.join(&key, purpose).filter(young) {
            Some(flight) => Boarding::Join(flight),
            None => self.start(flights, key, binding, purpose),
        }
    }

    fn start(
        self: &Arc<Self>,
        flights: &mut Table<Asked>,
        key: Key,
        binding: Binding,
        purpose: Purpose,
    ) -> Boarding {
        let Ok(room) = self.room.clone().try_acquire_owned() else { return Boarding::Full };
        let (sender, flight) = flights.depart(key, purpose, self.clock.moment());
        let (verifier, flying) = (self.clone(), flight.clone());
        let landing = Landing { verifier, key, binding, flight: flying, sender, _room: room };
        Boarding::Start(flight, landing)
    }
}
