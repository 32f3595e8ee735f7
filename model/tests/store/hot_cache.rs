//! The cache, and the hot cache in front of it.

use std::{sync::Arc, time::SystemTime};

use loom::thread::{self, JoinHandle};

use crate::{
    AGE, TOKEN,
    clock::{Clock, Moment},
    explore,
    layer::{Layer, NEIGHBOUR, beside, store},
    rejection::Rejection,
    store::{AtLeast, Binding, CheckJoin, TokenStore},
    token::{Facts, TokenInfo},
    verdict::Verdict,
};

const NOW: Moment = Moment { wall: 0, monotonic: 0 };

/// Caches facts of a token, of this version.
fn put(store: &Arc<TokenStore>, token: &str, asked: u64) {
    let expires_at = SystemTime::UNIX_EPOCH + 10 * AGE;
    let facts = Facts { asked, ..Facts::default() };
    learn(store, token, Ok(TokenInfo { facts, expires_at, complete: true }));
}

fn learn(store: &Arc<TokenStore>, token: &str, verdict: Verdict) {
    match store.join(store.key(token), Binding::BEARER, AtLeast::New) {
        CheckJoin::Lead(lead) => lead.complete(verdict),
        _ => unreachable!(),
    }
}

/// The version of what is found of a good token.
fn cached(store: &TokenStore, token: &str, now: Moment) -> Option<u64> {
    let hit = store.look_up(token, Binding::BEARER, now).1?;
    hit.verdict.ok().map(|token| token.facts.asked)
}

fn reads<T: 'static>(
    store: &Arc<TokenStore>,
    run: impl FnOnce(&TokenStore) -> T + 'static,
) -> JoinHandle<T> {
    let store = store.clone();
    thread::spawn(move || run(&store))
}

/// A store that has a token cached, which gets into the hot cache when it is looked up once more.
fn warm() -> (Arc<TokenStore>, Clock) {
    let clock = Clock::frozen(SystemTime::UNIX_EPOCH);
    let store = store(&clock, AGE);
    put(&store, TOKEN, 1);
    assert_eq!(cached(&store, TOKEN, NOW), Some(1));
    (store, clock)
}

#[test]
fn nothing_is_served_after_it_was_invalidated() {
    explore("hot cache: look up and offer, invalidate", Some(4), || {
        let (store, _) = warm();
        let reader = reads(&store, |store| cached(store, TOKEN, NOW));
        store.invalidate(store.key(TOKEN));
        assert_eq!(cached(&store, TOKEN, NOW), None);
        reader.join().unwrap();
        assert_eq!(cached(&store, TOKEN, NOW), None);
    });
}

#[test]
fn nor_what_was_hot() {
    explore("hot cache: look up what is hot, invalidate", Some(4), || {
        let (store, _) = warm();
        assert_eq!(cached(&store, TOKEN, NOW), Some(1));
        let reader = reads(&store, |store| [(); 2].map(|()| cached(store, TOKEN, NOW)));
        store.invalidate(store.key(TOKEN));
        assert_eq!(cached(&store, TOKEN, NOW), None);
        reader.join().unwrap();
        assert_eq!(cached(&store, TOKEN, NOW), None);
    });
}

#[test]
fn nothing_is_served_after_it_was_invalidated_whoever_reads() {
    explore("hot cache: two look up and offer, invalidate", Some(2), || {
        let (store, _) = warm();
        let readers = [(); 2].map(|()| reads(&store, |store| cached(store, TOKEN, NOW)));
        store.invalidate(store.key(TOKEN));
        assert_eq!(cached(&store, TOKEN, NOW), None);
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(cached(&store, TOKEN, NOW), None);
    });
}

#[test]
fn nothing_is_served_after_it_was_replaced() {
    explore("hot cache: look up and offer, replace", Some(4), || {
        let (store, _) = warm();
        let reader = reads(&store, |store| cached(store, TOKEN, NOW));
        put(&store, TOKEN, 2);
        assert_eq!(cached(&store, TOKEN, NOW), Some(2));
        assert!(reader.join().unwrap().is_some());
        assert_eq!(cached(&store, TOKEN, NOW), Some(2));
    });
}

#[test]
fn nothing_is_served_after_its_age_ended() {
    explore("hot cache: look up, end of age, replace", Some(3), || {
        let (store, clock) = warm();
        let later = NOW.after(AGE);
        let reader = reads(&store, move |store| [NOW, later].map(|now| cached(store, TOKEN, now)));
        clock.advance(AGE);
        put(&store, TOKEN, 2);
        assert_eq!(cached(&store, TOKEN, later), Some(2));
        let [_, then] = reader.join().unwrap();
        assert_ne!(then, Some(1));
        assert_eq!(cached(&store, TOKEN, later), Some(2));
    });
}

#[test]
fn nothing_is_served_after_everything_was_invalidated() {
    explore("hot cache: look up and offer, invalidate all", Some(4), || {
        let (store, _) = warm();
        let reader = reads(&store, |store| cached(store, TOKEN, NOW));
        store.invalidate_all();
        assert_eq!(cached(&store, TOKEN, NOW), None);
        reader.join().unwrap();
        assert_eq!(cached(&store, TOKEN, NOW), None);
    });
}

#[test]
fn a_rejection_is_served_in_place_of_what_was_hot() {
    explore("hot cache: look up and offer, reject", Some(3), || {
        let (store, _) = warm();
        let reader = reads(&store, |store| cached(store, TOKEN, NOW));
        learn(&store, TOKEN, Err(Rejection::Bad));
        assert_eq!(cached(&store, TOKEN, NOW), None);
        reader.join().unwrap();
        assert_eq!(cached(&store, TOKEN, NOW), None);
    });
}

#[test]
fn a_token_of_the_same_slot_is_not_taken_for_another() {
    explore("hot cache: two tokens of one slot", Some(2), || {
        let (store, _) = warm();
        put(&store, &NEIGHBOUR, 2);
        let reader = reads(&store, |store| [(); 3].map(|()| cached(store, &NEIGHBOUR, NOW)));
        assert_eq!(cached(&store, TOKEN, NOW), Some(1));
        store.invalidate(store.key(TOKEN));
        assert_eq!(cached(&store, TOKEN, NOW), None);
        assert_eq!(reader.join().unwrap(), [Some(2); 3]);
        assert_eq!(cached(&store, TOKEN, NOW), None);
    });
}

#[test]
fn a_token_stays_known_while_another_of_its_shard_is_invalidated() {
    explore("hot cache: look up what is hot, invalidate another", Some(3), || {
        let layer = Layer::hot();
        let other = beside(&layer, |layer| {
            for _ in 0..3 {
                assert!(layer.look().is_ok());
            }
        });
        layer.invalidate_neighbour();
        assert!(layer.look().is_ok());
        other.join().unwrap();
        assert!(layer.look().is_ok());
        assert_eq!(layer.token().introspections, 1);
    });
}
