//! Checks under way, while the token is invalidated, and while others are.

use std::sync::Arc;

use loom::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, JoinHandle},
};

use crate::{
    AGE, TOKEN, explore,
    layer::{Layer, beside, learns, looks},
    single_flight::{Join, SingleFlight},
    verdict::Verdict,
};

fn asks_once(layer: &Arc<Layer>) -> JoinHandle<Verdict> {
    beside(layer, |layer| layer.ask_once())
}

#[test]
fn one_call_is_enough_for_all() {
    explore("look, look, look", Some(1), || {
        let layer = Layer::new();
        let others = [looks(&layer), looks(&layer)];
        assert!(layer.look().is_ok());
        others.into_iter().for_each(learns);
        assert_eq!(layer.token().introspections, 1);
    });
}

#[test]
fn nothing_from_before_an_invalidation_is_told_after_it() {
    explore("look, invalidate", Some(3), || {
        let layer = Layer::new();
        let other = looks(&layer);
        layer.change_and_invalidate();
        assert!(layer.look().is_ok());
        learns(other);
        assert!(layer.look().is_ok());
    });
}

#[test]
fn nor_to_who_waits() {
    explore("ask, invalidate", Some(3), || {
        let layer = Layer::new();
        let other = asks_once(&layer);
        layer.change_and_invalidate();
        learns(other);
        assert!(layer.look().is_ok());
    });
}

#[test]
fn nor_to_who_revalidates() {
    explore("revalidate, invalidate", Some(3), || {
        let layer = Layer::warm();
        let other = beside(&layer, |layer| layer.revalidate());
        layer.change_and_invalidate();
        let _ = other.join().unwrap();
        assert!(layer.look().is_ok());
    });
}

#[test]
fn nor_to_who_joined() {
    explore("ask, join, invalidate", Some(2), || {
        let layer = Layer::new();
        let others = [asks_once(&layer), asks_once(&layer)];
        layer.change_and_invalidate();
        others.into_iter().for_each(learns);
        assert!(layer.look().is_ok());
    });
}

#[test]
fn nor_without_a_cache() {
    explore("ask, invalidate, no cache", Some(2), || {
        let layer = Layer::without_cache();
        let others = [looks(&layer), asks_once(&layer)];
        layer.change_and_invalidate();
        others.into_iter().for_each(learns);
    });
}

#[test]
fn nor_after_everything_was_invalidated() {
    explore("look, invalidate all", Some(3), || {
        let layer = Layer::new();
        let other = asks_once(&layer);
        layer.change_and_invalidate_all();
        assert!(layer.look().is_ok());
        learns(other);
        assert!(layer.look().is_ok());
    });
}

#[test]
fn nor_what_expires() {
    explore("look, expiry and look, invalidate", Some(2), || {
        let layer = Layer::warm();
        let other = beside(&layer, |layer| {
            assert!(layer.look().is_ok());
            layer.clock.advance(AGE);
            layer.look()
        });
        layer.change_and_invalidate();
        learns(other);
        assert!(layer.look().is_ok());
    });
}

#[test]
fn a_revoked_token_stays_revoked() {
    explore("look, revoke", Some(3), || {
        let layer = Layer::new();
        let other = asks_once(&layer);
        layer.revoke(TOKEN);
        assert!(layer.look().is_err());
        let _ = other.join().unwrap();
        assert!(layer.look().is_err());
    });
}

#[test]
fn who_goes_away_takes_nothing_along() {
    explore("ask and cancel, look, invalidate", Some(2), || {
        let layer = Layer::new();
        let gone = beside(&layer, |layer| layer.go_away());
        let other = looks(&layer);
        layer.change_and_invalidate();
        learns(other);
        gone.join().unwrap();
        assert!(layer.look().is_ok());
    });
}

#[test]
fn a_call_that_broke_off_is_made_again() {
    explore("break off, look, invalidate", Some(2), || {
        let layer = Layer::new();
        let broken = beside(&layer, |layer| layer.break_off());
        let other = looks(&layer);
        layer.change_and_invalidate();
        broken.join().unwrap();
        let _ = other.join().unwrap();
        assert!(layer.look().is_ok());
    });
}

#[test]
fn older_facts_told_to_another_are_not_kept() {
    explore("ask as another, change elsewhere, look", Some(2), || {
        let layer = Layer::new();
        let other = beside(&layer, |layer| layer.ask_with_certificate());
        layer.change_elsewhere();
        assert!(layer.look().is_ok());
        learns(other);
        assert!(layer.look().is_ok());
    });
}

#[test]
fn what_is_kept_never_gets_older() {
    explore("two ask alone, change elsewhere, look", Some(2), || {
        let layer = Layer::new();
        let others = [(); 2].map(|()| beside(&layer, |layer| layer.ask(true)));
        layer.change_elsewhere();
        assert!(layer.look().is_ok());
        others.into_iter().for_each(learns);
        assert!(layer.look().is_ok());
    });
}

#[test]
fn older_facts_are_not_kept_after_a_rejection() {
    explore("ask alone, revoke elsewhere, look", Some(3), || {
        let layer = Layer::new();
        let alone = beside(&layer, |layer| layer.ask(true));
        layer.revoke_elsewhere();
        let _ = layer.look();
        let _ = alone.join().unwrap();
        let _ = layer.look();
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

#[test]
fn who_needs_a_new_verdict_joins_nobody() {
    explore("ask, change elsewhere and ask alone", Some(3), || {
        let layer = Layer::new();
        let other = looks(&layer);
        let change = layer.authlete.change();
        assert!(layer.ask(true).unwrap().facts.asked >= change);
        learns(other);
    });
}

#[test]
fn nor_does_anybody_join_a_check_that_started_too_long_ago() {
    explore("look, change elsewhere, end of age, look", Some(3), || {
        let layer = Layer::new();
        let other = looks(&layer);
        let change = layer.authlete.change();
        layer.clock.advance(AGE);
        assert!(layer.look().unwrap().facts.asked >= change);
        learns(other);
    });
}
