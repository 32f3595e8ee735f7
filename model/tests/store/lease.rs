//! Leases: what is learnt before the token is invalidated is not used after that, and what is learnt
//! while another token is invalidated is.

use std::sync::Arc;

use crate::{
    explore,
    layer::{Layer, NEIGHBOUR, beside, learns, looks},
};

/// Two who hold a lease share it, until it ends.
#[test]
fn a_lease_is_void_once_its_token_is_invalidated() {
    type Event = fn(&Layer);
    for (name, event) in [
        ("lease, invalidate", Layer::change_and_invalidate as Event),
        ("lease, invalidate all", Layer::change_and_invalidate_all),
        ("lease, update", Layer::update),
    ] {
        explore(name, Some(3), move || {
            let layer = Layer::warm();
            let before = layer.store.lease(layer.key());
            let neighbours = layer.store.lease(layer.store.key(&**NEIGHBOUR));
            let other = beside(&layer, |layer| {
                let lease = layer.store.lease(layer.key());
                // As a token does that is derived from this one.
                let verdict = layer.look();
                let least = layer.gone_by_now();
                if !lease.is_void() {
                    let _ = layer.told(verdict, least);
                }
            });
            event(&layer);
            assert!(before.is_void());
            assert!(!layer.store.lease(layer.key()).is_void());
            assert_eq!(neighbours.is_void(), name.ends_with("all"));
            other.join().unwrap();
        });
    }
}

#[test]
fn nor_is_told_what_was_known_before_a_proof_is_used_up() {
    type Event = fn(&Layer);
    for (name, event) in [
        ("ask with a proof, invalidate", Layer::change_and_invalidate as Event),
        ("ask with a proof, invalidate all", Layer::change_and_invalidate_all),
        ("ask with a proof, update", Layer::update),
    ] {
        type New = fn() -> Arc<Layer>;
        for new in [Layer::new as New, Layer::warm, Layer::hot] {
            explore(name, Some(2), move || {
                let layer = new();
                let other = beside(&layer, |layer| layer.ask_with_proof());
                event(&layer);
                let _ = other.join().unwrap();
                assert!(layer.look().is_ok());
            });
        }
    }
}

#[test]
fn nor_what_an_outer_layer_was_told_before() {
    explore("ask by two layers, invalidate", Some(3), || {
        let layer = Layer::new();
        let other = beside(&layer, |layer| layer.ask_by_two_layers());
        layer.change_and_invalidate();
        let _ = other.join().unwrap();
        assert!(layer.look().is_ok());
    });
}

/// Nobody is refused, and one call is enough.
#[test]
fn an_invalidation_of_another_token_of_the_shard_costs_no_call() {
    explore("ask, ask, invalidate another", Some(2), || {
        let layer = Layer::new();
        let others = [looks(&layer), beside(&layer, |layer| layer.ask_once())];
        layer.invalidate_neighbour();
        others.into_iter().for_each(learns);
        assert!(layer.look().is_ok());
        assert_eq!(layer.token().introspections, 1);
    });
    explore("ask with a proof, invalidate another", Some(3), || {
        let layer = Layer::new();
        let other = beside(&layer, |layer| layer.ask_with_proof());
        layer.invalidate_neighbour();
        learns(other);
        assert!(layer.look().is_ok());
        assert_eq!(layer.token().introspections, 1);
    });
}

#[test]
fn nor_an_update_or_an_extension_anything() {
    explore("update, invalidate another", Some(3), || {
        let layer = Layer::warm();
        let other = beside(&layer, |layer| layer.update());
        layer.invalidate_neighbour();
        other.join().unwrap();
        assert!(layer.look().is_ok());
        assert_eq!(layer.token().introspections, 1);
    });
    for fresh in [true, false] {
        let name = if fresh { "ask and extend" } else { "extend what is known" };
        explore(&format!("{name}, invalidate another"), Some(2), move || {
            let layer = Layer::extending().warmed();
            let other = beside(&layer, move |layer| layer.extend(fresh));
            layer.invalidate_neighbour();
            assert_eq!(other.join().unwrap().unwrap().facts.extended, 1);
            assert_eq!(layer.look().unwrap().facts.extended, 1);
            assert_eq!(layer.token().introspections, 2);
        });
    }
}
