//! Tokens that get new values, while they are asked about, invalidated or revoked.

use std::{pin::pin, sync::Arc};

use loom::future::block_on;

use crate::{
    TOKEN,
    api::Secret,
    at_once,
    authlete::VALUES,
    explore,
    layer::{Layer, beside, looks},
};

const NEW: &str = VALUES[1];

/// One that has given the token another value, for which the old one stands.
fn rotated() -> Arc<Layer> {
    let layer = Layer::rotating(false);
    assert_eq!(layer.rotate().as_deref(), Some(NEW));
    assert!(layer.has_alias() && layer.look().is_ok());
    layer
}

#[test]
fn all_learn_the_same_value() {
    explore("rotate, rotate", Some(2), || {
        let layer = Layer::rotating(false);
        let other = beside(&layer, |layer| layer.rotate());
        assert_eq!(layer.rotate().as_deref(), Some(NEW));
        assert_eq!(other.join().unwrap().as_deref(), Some(NEW));
        assert!(layer.look_at(NEW).is_ok() && layer.look().is_ok());
    });
}

#[test]
fn while_it_is_reserved_a_token_gets_no_value() {
    explore("rotate, reserve, reserve", Some(3), || {
        let layer = Layer::rotating(false);
        let other = beside(&layer, |layer| layer.rotate());
        let first = block_on(layer.lifecycle.revocable_values(TOKEN));
        let newest = |values: &[Secret]| {
            assert_eq!(values.last().unwrap().expose(), layer.token().value());
        };
        newest(&first.values);
        let second =
            at_once(pin!(layer.lifecycle.revocable_values(TOKEN))).expect("it waits for the first");
        newest(&second.values);
        drop(first);
        newest(&second.values);
        drop(second);
        let _ = other.join().unwrap();
        assert_eq!(layer.rotate().as_deref(), Some(NEW));
    });
}

#[test]
fn a_value_that_a_revoked_token_gets_is_revoked_and_told_to_nobody() {
    for (name, impatient) in [("rotate, revoke", false), ("rotate, revoke without waiting", true)] {
        explore(name, Some(3), move || {
            let layer = Layer::rotating(impatient);
            let other = beside(&layer, |layer| layer.rotate());
            let revoked = layer.revoke(TOKEN);
            assert!(impatient || layer.token().is_revoked);
            assert!(layer.look().is_err());
            // Who revokes a token ends the values that were told before.
            let told = other.join().unwrap();
            assert!(told.is_none() || revoked == 1);
            assert!(told.is_some() || layer.rotate().is_none());
            assert!(layer.token().is_revoked);
            assert!(layer.look().is_err() && layer.look_at(NEW).is_err());
        });
    }
}

#[test]
fn nor_is_it_known_if_nobody_waits_for_the_revocation() {
    explore("rotate, revoke and go away", Some(3), || {
        let layer = Layer::rotating(false);
        let other = beside(&layer, |layer| layer.rotate());
        let revoked = at_once(pin!(layer.lifecycle.revoke(TOKEN)));
        let told = other.join().unwrap();
        assert!(told.is_none() || revoked.is_some());
        assert!(layer.token().is_revoked);
        assert!(layer.look().is_err() && layer.look_at(NEW).is_err());
    });
}

#[test]
fn the_alias_of_an_old_value_ends_when_it_is_invalidated() {
    type Event = fn(&Layer);
    for (name, event) in [
        ("rotate, invalidate", Layer::change_and_invalidate as Event),
        ("rotate, invalidate all", Layer::change_and_invalidate_all),
    ] {
        explore(name, Some(3), move || {
            let layer = Layer::rotating(false);
            let other = beside(&layer, |layer| layer.rotate());
            // If so, the rotation began before it is forgotten.
            let rotated = layer.token().value() == NEW;
            event(&layer);
            assert!(!rotated || !layer.has_alias());
            let _ = layer.look();
            let _ = other.join().unwrap();
            assert!(!rotated || !layer.has_alias());
            let _ = layer.look();
            assert!(layer.look_at(NEW).is_ok());
        });
    }
}

#[test]
fn nothing_from_before_is_told_by_an_alias() {
    for value in [TOKEN, NEW] {
        explore(&format!("look by the old value, invalidate the {value}"), Some(2), move || {
            let layer = rotated();
            let other = looks(&layer);
            layer.change_and(|| layer.lifecycle.invalidate(value));
            assert!(layer.look().is_err());
            let _ = other.join().unwrap();
            assert!(layer.look().is_err() && layer.look_at(NEW).is_ok());
        });
    }
}

#[test]
fn nor_of_a_revoked_token() {
    for value in [TOKEN, NEW] {
        explore(&format!("look by the old value, revoke the {value}"), Some(1), move || {
            let layer = rotated();
            let other = looks(&layer);
            assert_eq!(layer.revoke(value), 1);
            assert!(layer.look().is_err());
            let _ = other.join().unwrap();
            assert!(layer.look().is_err() && layer.look_at(NEW).is_err());
        });
    }
}

#[test]
fn nor_after_an_update_of_the_value() {
    explore("update the value, invalidate", Some(3), || {
        let layer = Layer::warm();
        let other = beside(&layer, |layer| layer.update_value());
        layer.change_and_invalidate();
        let _ = layer.look();
        other.join().unwrap();
        assert!(layer.look().is_err() && layer.look_at(NEW).is_ok());
    });
}

#[test]
fn nor_lives_a_value_on_that_an_update_gives_a_revoked_token() {
    explore("update the value, revoke", Some(3), || {
        let layer = Layer::warm();
        let other = beside(&layer, |layer| layer.update_value());
        layer.revoke(TOKEN);
        other.join().unwrap();
        assert!(layer.token().is_revoked);
        assert!(layer.look().is_err() && layer.look_at(NEW).is_err());
    });
}

#[test]
fn an_extension_that_comes_too_late_for_the_old_value_ends_no_alias() {
    for (name, by_update) in [("extend, rotate", false), ("extend, update the value", true)] {
        explore(name, Some(2), move || {
            let layer = Layer::extending_and_rotating();
            let extends = beside(&layer, |layer| layer.extend(false));
            let renews = beside(&layer, move |layer| match by_update {
                true => layer.update_value(),
                false => assert_eq!(layer.rotate().as_deref(), Some(NEW)),
            });
            let _ = extends.join().unwrap();
            renews.join().unwrap();
            assert!(by_update || (layer.has_alias() && layer.look().is_ok()));
            assert!(layer.look_at(NEW).is_ok());
        });
    }
}
