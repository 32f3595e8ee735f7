//! Calls under way, while the token is forgotten or changed.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use loom::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, JoinHandle},
};

use crate::{
    AGE, NOW, explore,
    verifier::{Answer, Boarding, Verifier},
};

fn beside<T: 'static>(
    verifier: &Arc<Verifier>,
    run: impl FnOnce(Arc<Verifier>) -> T + 'static,
) -> JoinHandle<T> {
    let verifier = verifier.clone();
    thread::spawn(move || run(verifier))
}

fn looks(verifier: &Arc<Verifier>) -> JoinHandle<Answer> {
    beside(verifier, |verifier| verifier.look())
}

#[test]
fn nothing_from_before_is_told_after_it_was_forgotten() {
    explore("flights: look, forget", Some(2), || {
        let verifier = Verifier::new();
        let other = looks(&verifier);
        verifier.revoke();
        assert!(verifier.look().is_ok());
        assert!(other.join().unwrap().is_ok());
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_to_who_waits() {
    explore("flights: look, join, forget", Some(1), || {
        let verifier = Verifier::new();
        let others = [looks(&verifier), looks(&verifier)];
        verifier.revoke();
        others.into_iter().for_each(|other| assert!(other.join().unwrap().is_ok()));
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_without_a_cache() {
    explore("flights: two ask, forget, no cache", Some(2), || {
        let verifier = Verifier::with(None);
        let others = [looks(&verifier), looks(&verifier)];
        verifier.revoke();
        others.into_iter().for_each(|other| assert!(other.join().unwrap().is_ok()));
    });
}

#[test]
fn nor_after_all_was_forgotten() {
    explore("flights: look, forget all", Some(1), || {
        let verifier = Verifier::new();
        let other = looks(&verifier);
        verifier.revoke_all();
        assert!(verifier.look().is_ok());
        assert!(other.join().unwrap().is_ok());
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_what_expires() {
    explore("flights: look, look after expiry, forget", Some(1), || {
        let verifier = Verifier::warm();
        let before = looks(&verifier);
        let after = beside(&verifier, |verifier| verifier.look_at(NOW + AGE));
        verifier.revoke();
        assert!(before.join().unwrap().is_ok());
        assert!(after.join().unwrap().is_ok());
        assert!(verifier.look_at(NOW + AGE).is_ok());
    });
}

#[test]
fn who_goes_away_takes_nothing_along() {
    explore("flights: look and cancel, look, forget", Some(1), || {
        let verifier = Verifier::new();
        let gone = beside(&verifier, |verifier| {
            let flight = match verifier.board(NOW, false).0 {
                Boarding::Known(_) => return,
                Boarding::Join(flight) => flight,
                Boarding::Start(flight, landing) => {
                    thread::spawn(move || landing.fly());
                    flight
                }
            };
            let _ = pin!(flight.outcome()).poll(&mut Context::from_waker(Waker::noop()));
        });
        let other = looks(&verifier);
        verifier.revoke();
        assert!(other.join().unwrap().is_ok());
        gone.join().unwrap();
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn a_call_that_broke_off_is_made_again() {
    explore("flights: break off, look, forget", Some(2), || {
        let verifier = Verifier::new();
        let broken = beside(&verifier, |verifier| drop(verifier.board(NOW, false)));
        let other = looks(&verifier);
        verifier.revoke();
        broken.join().unwrap();
        let _ = other.join().unwrap();
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nothing_from_before_is_told_after_an_update() {
    for (name, new) in [
        ("flights: look, update", Verifier::new as fn() -> _),
        ("flights: look at what is known, update", Verifier::warm),
    ] {
        explore(name, Some(2), move || {
            let verifier = new();
            let other = looks(&verifier);
            verifier.update();
            assert!(verifier.look().is_ok());
            assert!(other.join().unwrap().is_ok());
            assert!(verifier.look().is_ok());
        });
    }
}

#[test]
fn nor_after_an_update_and_what_else_happens() {
    explore("flights: look, update, forget", Some(1), || {
        let verifier = Verifier::warm();
        let updated = beside(&verifier, |verifier| verifier.update());
        let other = looks(&verifier);
        verifier.revoke();
        assert!(verifier.look().is_ok());
        updated.join().unwrap();
        assert!(other.join().unwrap().is_ok());
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_after_two_updates() {
    explore("flights: look, update, update", Some(1), || {
        let verifier = Verifier::warm();
        let updated = beside(&verifier, |verifier| verifier.update());
        let other = looks(&verifier);
        verifier.update();
        assert!(verifier.look().is_ok());
        updated.join().unwrap();
        assert!(other.join().unwrap().is_ok());
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_after_an_extension() {
    explore("flights: ask alone, extend", Some(3), || {
        let verifier = Verifier::new();
        let alone = beside(&verifier, |verifier| verifier.ask(NOW, true));
        if let Boarding::Start(_, landing) = verifier.board(NOW, false).0 {
            let said = landing.fly_and_extend();
            let told = verifier.look().unwrap().said;
            assert!(told >= said, "told of {told}, after {said}");
        }
        assert!(alone.join().unwrap().is_ok());
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn a_place_is_taken_once() {
    explore("flights: two occupy, look", Some(3), || {
        let verifier = Verifier::new();
        let occupants = Arc::new(AtomicUsize::new(0));
        let occupy = |occupants: Arc<AtomicUsize>| {
            move |verifier: Arc<Verifier>| {
                let _berth = block_on(verifier.flights.occupy(verifier.key));
                assert_eq!(occupants.fetch_add(1, Ordering::AcqRel), 0);
                occupants.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let other = beside(&verifier, occupy(occupants.clone()));
        let asker = looks(&verifier);
        occupy(occupants)(verifier.clone());
        other.join().unwrap();
        let _ = asker.join().unwrap();
        assert!(verifier.look().is_ok());
    });
}
