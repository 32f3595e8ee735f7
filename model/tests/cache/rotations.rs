//! Tokens that get new values, while they are asked about, invalidated or ended.

use std::{pin::pin, sync::Arc};

use loom::future::block_on;

use crate::{
    TOKEN,
    api::{Secret, VALUES},
    at_once, explore,
    verifier::{Verifier, beside, looks},
};

const NEW: &str = VALUES[1];

/// One that has given the token another value, for which the old one stands.
fn rotated() -> Arc<Verifier> {
    let verifier = Verifier::rotating(false);
    assert_eq!(verifier.rotate().as_deref(), Some(NEW));
    assert!(verifier.overlaps() && verifier.look().is_ok());
    verifier
}

#[test]
fn all_learn_the_same_value() {
    explore("rotate, rotate", Some(2), || {
        let verifier = Verifier::rotating(false);
        let other = beside(&verifier, |verifier| verifier.rotate());
        assert_eq!(verifier.rotate().as_deref(), Some(NEW));
        assert_eq!(other.join().unwrap().as_deref(), Some(NEW));
        assert!(verifier.look().is_ok() && verifier.look_at(NEW).is_ok());
    });
}

#[test]
fn while_it_is_reserved_a_token_gets_no_value() {
    explore("rotate, reserve, reserve", Some(3), || {
        let verifier = Verifier::rotating(false);
        let other = beside(&verifier, |verifier| verifier.rotate());
        let first = block_on(verifier.line(TOKEN));
        let newest = |line: &[Secret]| {
            assert_eq!(line.last().unwrap().expose(), verifier.token().value());
        };
        newest(&first.values);
        let second = at_once(pin!(verifier.line(TOKEN))).expect("it waits for the first");
        newest(&second.values);
        drop(first);
        newest(&second.values);
        drop(second);
        let _ = other.join().unwrap();
        assert_eq!(verifier.rotate().as_deref(), Some(NEW));
    });
}

#[test]
fn a_value_that_a_revoked_token_gets_is_ended_and_told_to_nobody() {
    for (name, impatient) in [("rotate, revoke", false), ("rotate, revoke without waiting", true)] {
        explore(name, Some(3), move || {
            let verifier = Verifier::rotating(impatient);
            let other = beside(&verifier, |verifier| verifier.rotate());
            let ended = verifier.end(TOKEN);
            assert!(impatient || verifier.token().revoked);
            assert!(verifier.look().is_err());
            // Who revokes a token ends the values that were told before.
            let told = other.join().unwrap();
            assert!(told.is_none() || ended == 1);
            assert!(told.is_some() || verifier.rotate().is_none());
            assert!(verifier.token().revoked);
            assert!(verifier.look().is_err() && verifier.look_at(NEW).is_err());
        });
    }
}

#[test]
fn nor_is_it_known_if_nobody_waits_for_the_end() {
    explore("rotate, revoke and go away", Some(3), || {
        let verifier = Verifier::rotating(false);
        let other = beside(&verifier, |verifier| verifier.rotate());
        let ended = at_once(pin!(verifier.revoke(TOKEN)));
        let told = other.join().unwrap();
        assert!(told.is_none() || ended.is_some());
        assert!(verifier.token().revoked);
        assert!(verifier.look().is_err() && verifier.look_at(NEW).is_err());
    });
}

#[test]
fn the_alias_of_an_old_value_ends_when_it_is_invalidated() {
    type Event = fn(&Verifier);
    for (name, event) in [
        ("rotate, forget", Verifier::change_and_forget as Event),
        ("rotate, forget all", Verifier::change_and_forget_all),
    ] {
        explore(name, Some(3), move || {
            let verifier = Verifier::rotating(false);
            let other = beside(&verifier, |verifier| verifier.rotate());
            // If so, the rotation began before it is forgotten.
            let rotated = verifier.token().value() == NEW;
            event(&verifier);
            assert!(!rotated || !verifier.overlaps());
            let _ = verifier.look();
            let _ = other.join().unwrap();
            assert!(!rotated || !verifier.overlaps());
            let _ = verifier.look();
            assert!(verifier.look_at(NEW).is_ok());
        });
    }
}

#[test]
fn nothing_from_before_is_told_by_an_alias() {
    for value in [TOKEN, NEW] {
        explore(&format!("look by the old value, forget the {value}"), Some(2), move || {
            let verifier = rotated();
            let other = looks(&verifier);
            verifier.change_and(|| verifier.forget(value));
            assert!(verifier.look().is_err());
            let _ = other.join().unwrap();
            assert!(verifier.look().is_err() && verifier.look_at(NEW).is_ok());
        });
    }
}

#[test]
fn nor_of_a_revoked_token() {
    for value in [TOKEN, NEW] {
        explore(&format!("look by the old value, revoke the {value}"), Some(1), move || {
            let verifier = rotated();
            let other = looks(&verifier);
            assert_eq!(verifier.end(value), 1);
            assert!(verifier.look().is_err());
            let _ = other.join().unwrap();
            assert!(verifier.look().is_err() && verifier.look_at(NEW).is_err());
        });
    }
}

#[test]
fn nor_after_an_update_of_the_value() {
    explore("update the value, forget", Some(3), || {
        let verifier = Verifier::warm();
        let other = beside(&verifier, |verifier| verifier.change_value());
        verifier.change_and_forget();
        let _ = verifier.look();
        other.join().unwrap();
        assert!(verifier.look().is_err() && verifier.look_at(NEW).is_ok());
    });
}

#[test]
fn nor_lives_a_value_on_that_an_update_gives_a_revoked_token() {
    explore("update the value, revoke", Some(3), || {
        let verifier = Verifier::warm();
        let other = beside(&verifier, |verifier| verifier.change_value());
        verifier.end(TOKEN);
        other.join().unwrap();
        assert!(verifier.token().revoked);
        assert!(verifier.look().is_err() && verifier.look_at(NEW).is_err());
    });
}
