//! Calls under way, while the token is forgotten or changed.

use std::sync::Arc;

use loom::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, JoinHandle},
};

use crate::{
    AGE, TOKEN, explore,
    single_flight::{Join, SingleFlight},
    verifier::{Verdict, Verifier, beside, learns, looks},
};

fn asks_awake(verifier: &Arc<Verifier>) -> JoinHandle<Verdict> {
    beside(verifier, |verifier| verifier.ask_awake(false))
}

#[test]
fn one_call_is_enough_for_all() {
    explore("look, look, look", Some(1), || {
        let verifier = Verifier::new();
        let others = [looks(&verifier), looks(&verifier)];
        assert!(verifier.look().is_ok());
        others.into_iter().for_each(learns);
        assert_eq!(verifier.token().introspections, 1);
    });
}

#[test]
fn nothing_from_before_is_told_after_it_was_forgotten() {
    explore("look, forget", Some(3), || {
        let verifier = Verifier::new();
        let other = looks(&verifier);
        verifier.change_and_forget();
        assert!(verifier.look().is_ok());
        learns(other);
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_to_who_waits() {
    explore("ask, forget", Some(3), || {
        let verifier = Verifier::new();
        let other = asks_awake(&verifier);
        verifier.change_and_forget();
        learns(other);
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_to_who_joined() {
    explore("ask, join, forget", Some(2), || {
        let verifier = Verifier::new();
        let others = [asks_awake(&verifier), asks_awake(&verifier)];
        verifier.change_and_forget();
        others.into_iter().for_each(learns);
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_without_a_cache() {
    explore("ask, forget, no cache", Some(2), || {
        let verifier = Verifier::forgetful();
        let others = [looks(&verifier), asks_awake(&verifier)];
        verifier.change_and_forget();
        others.into_iter().for_each(learns);
    });
}

#[test]
fn nor_after_all_was_forgotten() {
    explore("look, forget all", Some(2), || {
        let verifier = Verifier::new();
        let other = asks_awake(&verifier);
        verifier.change_and_forget_all();
        assert!(verifier.look().is_ok());
        learns(other);
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_what_expires() {
    explore("look, expiry and look, forget", Some(2), || {
        let verifier = Verifier::warm();
        let other = beside(&verifier, |verifier| {
            assert!(verifier.look().is_ok());
            verifier.clock.advance(AGE);
            verifier.look()
        });
        verifier.change_and_forget();
        learns(other);
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn a_revoked_token_stays_revoked() {
    explore("look, revoke", Some(3), || {
        let verifier = Verifier::new();
        let other = asks_awake(&verifier);
        verifier.end(TOKEN);
        assert!(verifier.look().is_err());
        let _ = other.join().unwrap();
        assert!(verifier.look().is_err());
    });
}

#[test]
fn who_goes_away_takes_nothing_along() {
    explore("ask and cancel, look, forget", Some(2), || {
        let verifier = Verifier::new();
        let gone = beside(&verifier, |verifier| verifier.go_away());
        let other = looks(&verifier);
        verifier.change_and_forget();
        learns(other);
        gone.join().unwrap();
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn a_call_that_broke_off_is_made_again() {
    explore("break off, look, forget", Some(2), || {
        let verifier = Verifier::new();
        let broken = beside(&verifier, |verifier| verifier.break_off());
        let other = looks(&verifier);
        verifier.change_and_forget();
        broken.join().unwrap();
        let _ = other.join().unwrap();
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nothing_from_before_is_told_after_an_update() {
    for (name, new) in [
        ("look, update", Verifier::new as fn() -> _),
        ("look at what is known, update", Verifier::warm),
    ] {
        explore(name, Some(2), move || {
            let verifier = new();
            let other = looks(&verifier);
            verifier.change_it();
            assert!(verifier.look().is_ok());
            learns(other);
            assert!(verifier.look().is_ok());
        });
    }
}

#[test]
fn nor_after_an_update_and_a_forget() {
    explore("update, forget", Some(3), || {
        let verifier = Verifier::warm();
        let updated = beside(&verifier, |verifier| verifier.change_it());
        verifier.change_and_forget();
        assert!(verifier.look().is_ok());
        updated.join().unwrap();
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_after_an_update_a_forget_and_a_look() {
    explore("look, update, forget", Some(1), || {
        let verifier = Verifier::warm();
        let updated = beside(&verifier, |verifier| verifier.change_it());
        let forgotten = beside(&verifier, |verifier| verifier.change_and_forget());
        learns(looks(&verifier));
        updated.join().unwrap();
        forgotten.join().unwrap();
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_after_two_updates() {
    explore("update, update", Some(3), || {
        let verifier = Verifier::warm();
        let updated = beside(&verifier, |verifier| verifier.change_it());
        verifier.change_it();
        assert!(verifier.look().is_ok());
        updated.join().unwrap();
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_after_an_update_that_an_answer_overtook() {
    explore("ask alone, update, change elsewhere", Some(4), || {
        let verifier = Verifier::warm();
        let updated = beside(&verifier, |verifier| verifier.change_it());
        let alone = beside(&verifier, |verifier| verifier.ask(true));
        verifier.change_elsewhere();
        updated.join().unwrap();
        learns(alone);
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_is_an_older_yes_to_another_kept() {
    explore("ask as another, change elsewhere, look", Some(2), || {
        let verifier = Verifier::new();
        let other = beside(&verifier, |verifier| verifier.ask_with_certificate());
        verifier.change_elsewhere();
        assert!(verifier.look().is_ok());
        learns(other);
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn what_is_kept_never_gets_older() {
    explore("two ask alone, change elsewhere, look", Some(2), || {
        let verifier = Verifier::new();
        let others = [(); 2].map(|()| beside(&verifier, |verifier| verifier.ask(true)));
        verifier.change_elsewhere();
        assert!(verifier.look().is_ok());
        others.into_iter().for_each(learns);
        assert!(verifier.look().is_ok());
    });
}

#[test]
fn nor_is_an_older_yes_kept_after_a_no() {
    explore("ask alone, end elsewhere, look", Some(3), || {
        let verifier = Verifier::new();
        let alone = beside(&verifier, |verifier| verifier.ask(true));
        verifier.end_elsewhere();
        let _ = verifier.look();
        let _ = alone.join().unwrap();
        let _ = verifier.look();
    });
}

#[test]
fn a_place_is_taken_once() {
    explore("two occupy, join", Some(3), || {
        let calls = Arc::new(SingleFlight::<u32, ()>::new());
        let occupants = Arc::new(AtomicUsize::new(0));
        let occupy = {
            let (calls, occupants) = (calls.clone(), occupants.clone());
            move || {
                let _place = block_on(calls.occupy(1));
                assert_eq!(occupants.fetch_add(1, Ordering::AcqRel), 0);
                occupants.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let other = thread::spawn(occupy.clone());
        let joins = thread::spawn(move || {
            let join = calls.lock().join(1);
            if let Join::Wait(call) = join {
                assert_eq!(block_on(call.outcome()), None);
            }
        });
        occupy();
        other.join().unwrap();
        joins.join().unwrap();
    });
}
