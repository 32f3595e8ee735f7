//! Tokens that get a longer life, while they are asked about, updated or revoked.

use std::sync::Arc;

use crate::{
    TOKEN, explore,
    layer::{Layer, beside, learns},
};

#[test]
fn nothing_from_before_is_kept_after_an_extension() {
    for fresh in [true, false] {
        let name = if fresh { "ask, ask alone and extend" } else { "ask, extend what is known" };
        explore(name, Some(2), move || {
            let layer = Layer::extending().warmed();
            let alone = beside(&layer, |layer| layer.ask(true));
            assert_eq!(layer.extend(fresh).unwrap().facts.extended, 1);
            assert!(layer.look().is_ok());
            learns(alone);
            assert!(layer.look().is_ok());
        });
    }
}

#[test]
fn a_token_is_extended_once() {
    explore("two ask and extend", Some(2), || {
        let layer = Layer::extending();
        let other = beside(&layer, |layer| layer.extend(true));
        assert!(layer.extend(true).is_ok());
        learns(other);
        assert_eq!(layer.token().extensions, 1);
        assert!(layer.look().is_ok());
    });
}

/// What another one does to the token while it is extended.
fn extends_beside(name: &str, event: fn(&Arc<Layer>)) {
    type New = fn() -> Arc<Layer>;
    for (kind, new) in [
        ("ask and extend", Layer::extending as New),
        ("extend what is known", || Layer::extending().warmed()),
        ("ask and extend twice", || Layer::extending().failing()),
        ("use what is known", || Layer::extending().warmed().introspected()),
    ] {
        explore(&format!("{kind}, {name}"), Some(2), move || {
            let layer = new();
            let other = beside(&layer, |layer| layer.extend(false));
            event(&layer);
            let _ = other.join().unwrap();
            assert_eq!(layer.look().is_err(), layer.token().is_revoked);
        });
    }
}

#[test]
fn an_update_before_an_extension_wins() {
    extends_beside("update", |layer| layer.update());
}

#[test]
fn what_is_invalidated_before_an_extension_is_not_extended() {
    extends_beside("invalidate", |layer| layer.change_and_invalidate());
}

#[test]
fn a_revoked_token_is_not_extended() {
    extends_beside("revoke", |layer| {
        layer.revoke(TOKEN);
        assert!(layer.token().is_revoked && layer.look().is_err());
    });
}

#[test]
fn a_token_that_was_gone_when_it_was_extended_is_not_known() {
    explore("ask and extend, revoke elsewhere", Some(3), || {
        let layer = Layer::extending();
        let other = beside(&layer, |layer| layer.extend(false));
        layer.revoke_elsewhere();
        let _ = other.join().unwrap();
        let _ = layer.look();
    });
}
