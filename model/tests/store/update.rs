//! Tokens that are updated, while they are asked about, updated or invalidated.

use crate::{
    explore,
    layer::{Layer, beside, learns, looks},
};

#[test]
fn nothing_from_before_is_told_after_an_update() {
    for (name, new) in
        [("look, update", Layer::new as fn() -> _), ("look at what is known, update", Layer::warm)]
    {
        explore(name, Some(2), move || {
            let layer = new();
            let other = beside(&layer, |layer| layer.ask_once());
            layer.update();
            assert!(layer.look().is_ok());
            learns(other);
            assert!(layer.look().is_ok());
        });
    }
}

#[test]
fn nor_after_an_update_and_an_invalidation() {
    explore("update, invalidate", Some(3), || {
        let layer = Layer::warm();
        let updated = beside(&layer, |layer| layer.update());
        layer.change_and_invalidate();
        assert!(layer.look().is_ok());
        updated.join().unwrap();
        assert!(layer.look().is_ok());
    });
}

#[test]
fn nor_after_an_update_an_invalidation_and_a_look() {
    explore("look, update, invalidate", Some(1), || {
        let layer = Layer::warm();
        let updated = beside(&layer, |layer| layer.update());
        let forgotten = beside(&layer, |layer| layer.change_and_invalidate());
        learns(looks(&layer));
        updated.join().unwrap();
        forgotten.join().unwrap();
        assert!(layer.look().is_ok());
    });
}

#[test]
fn nor_after_two_updates() {
    explore("update, update", Some(3), || {
        let layer = Layer::warm();
        let updated = beside(&layer, |layer| layer.update());
        layer.update();
        assert!(layer.look().is_ok());
        updated.join().unwrap();
        assert!(layer.look().is_ok());
    });
}

#[test]
fn nor_after_an_update_that_a_verdict_superseded() {
    explore("ask alone, update, change elsewhere", Some(4), || {
        let layer = Layer::warm();
        let updated = beside(&layer, |layer| layer.update());
        let alone = beside(&layer, |layer| layer.ask(true));
        layer.change_elsewhere();
        updated.join().unwrap();
        learns(alone);
        assert!(layer.look().is_ok());
    });
}
