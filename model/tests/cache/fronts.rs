//! The cache in memory and what is at hand in front of it.

use std::sync::Arc;

use loom::thread;

use crate::{AGE, NEIGHBOUR, NOW, TOKEN, cache::MemoryCache, explore, kept, key, memory, put};

/// A cache that knows a token, which will be at hand when it is looked up once more.
fn warm() -> Arc<MemoryCache> {
    let cache = Arc::new(memory());
    put(&cache, TOKEN, 1, NOW);
    assert_eq!(kept(&cache, TOKEN, NOW), Some(1));
    cache
}

/// The same, where it is at hand.
fn hot() -> Arc<MemoryCache> {
    let cache = warm();
    assert_eq!(kept(&cache, TOKEN, NOW), Some(1));
    cache
}

#[test]
fn nothing_is_served_after_it_was_removed() {
    explore("front: get, offer, forget", None, || {
        let cache = warm();
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || kept(&cache, TOKEN, NOW))
        };
        cache.remove(&key(TOKEN));
        assert_eq!(kept(&cache, TOKEN, NOW), None);
        reader.join().unwrap();
        assert_eq!(kept(&cache, TOKEN, NOW), None);
    });
}

#[test]
fn nor_what_was_at_hand() {
    explore("front: get what is at hand, forget", None, || {
        let cache = hot();
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || [(); 2].map(|()| kept(&cache, TOKEN, NOW)))
        };
        cache.remove(&key(TOKEN));
        assert_eq!(kept(&cache, TOKEN, NOW), None);
        reader.join().unwrap();
        assert_eq!(kept(&cache, TOKEN, NOW), None);
    });
}

#[test]
fn nothing_is_served_after_it_was_removed_whoever_reads() {
    explore("front: two get and offer, forget", Some(3), || {
        let cache = warm();
        let readers = [(); 2].map(|()| {
            let cache = cache.clone();
            thread::spawn(move || kept(&cache, TOKEN, NOW))
        });
        cache.remove(&key(TOKEN));
        assert_eq!(kept(&cache, TOKEN, NOW), None);
        readers.into_iter().for_each(|reader| assert_ne!(reader.join().unwrap(), Some(0)));
        assert_eq!(kept(&cache, TOKEN, NOW), None);
    });
}

#[test]
fn nothing_is_served_after_it_was_put_again() {
    explore("front: get, offer, put", None, || {
        let cache = warm();
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || kept(&cache, TOKEN, NOW))
        };
        put(&cache, TOKEN, 2, NOW);
        assert_eq!(kept(&cache, TOKEN, NOW), Some(2));
        reader.join().unwrap();
        assert_eq!(kept(&cache, TOKEN, NOW), Some(2));
    });
}

#[test]
fn nothing_is_served_after_it_expired_and_was_put() {
    explore("front: get, expiry, put", Some(3), || {
        let cache = warm();
        let later = NOW.after(AGE);
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || (kept(&cache, TOKEN, NOW), kept(&cache, TOKEN, later)))
        };
        put(&cache, TOKEN, 2, later);
        assert_eq!(kept(&cache, TOKEN, later), Some(2));
        let (_, then) = reader.join().unwrap();
        assert_ne!(then, Some(1));
        assert_eq!(kept(&cache, TOKEN, later), Some(2));
    });
}

#[test]
fn nothing_is_served_after_all_was_removed() {
    explore("front: get, offer, forget all", Some(2), || {
        let cache = warm();
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || kept(&cache, TOKEN, NOW))
        };
        cache.remove_all();
        assert_eq!(kept(&cache, TOKEN, NOW), None);
        reader.join().unwrap();
        assert_eq!(kept(&cache, TOKEN, NOW), None);
    });
}

#[test]
fn a_token_in_the_same_place_is_not_taken_for_another() {
    explore("front: two tokens of one slot", Some(4), || {
        let cache = warm();
        put(&cache, &NEIGHBOUR, 2, NOW);
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || [(); 3].map(|()| kept(&cache, &NEIGHBOUR, NOW)))
        };
        assert_eq!(kept(&cache, TOKEN, NOW), Some(1));
        cache.remove(&key(TOKEN));
        assert_eq!(kept(&cache, TOKEN, NOW), None);
        assert_eq!(reader.join().unwrap(), [Some(2); 3]);
        assert_eq!(kept(&cache, TOKEN, NOW), None);
    });
}
