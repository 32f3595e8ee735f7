//! The cache in memory and what is at hand in front of it.

use std::{sync::Arc, time::SystemTime};

use loom::thread;

use crate::{
    AGE, NOW,
    cache::{Holder, Key, MemoryCache},
    explore, kept, key, memory,
    token::TokenInfo,
};

fn put(cache: &MemoryCache, key: Key, said: u64, now: SystemTime) {
    cache.put(key, Holder::BEARER, &Ok(TokenInfo { said }), now);
}

/// A cache that knows a token, which will be at hand when it is looked up once more.
fn warm(key: &Key) -> Arc<MemoryCache> {
    let cache = Arc::new(memory());
    put(&cache, *key, 1, NOW);
    assert_eq!(kept(&cache, key, NOW), Some(1));
    cache
}

#[test]
fn nothing_is_served_after_it_was_removed() {
    explore("front: get, offer, forget", None, || {
        let key = key("token");
        let cache = warm(&key);
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || kept(&cache, &key, NOW))
        };
        cache.remove(&key);
        assert_eq!(kept(&cache, &key, NOW), None);
        reader.join().unwrap();
        assert_eq!(kept(&cache, &key, NOW), None);
    });
}

#[test]
fn nothing_is_served_after_it_was_removed_whoever_reads() {
    explore("front: two get and offer, forget", Some(3), || {
        let key = key("token");
        let cache = warm(&key);
        let readers = [(); 2].map(|()| {
            let cache = cache.clone();
            thread::spawn(move || kept(&cache, &key, NOW))
        });
        cache.remove(&key);
        assert_eq!(kept(&cache, &key, NOW), None);
        readers.into_iter().for_each(|reader| assert_ne!(reader.join().unwrap(), Some(0)));
        assert_eq!(kept(&cache, &key, NOW), None);
    });
}

#[test]
fn nothing_is_served_after_it_was_put_again() {
    explore("front: get, offer, put", None, || {
        let key = key("token");
        let cache = warm(&key);
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || kept(&cache, &key, NOW))
        };
        put(&cache, key, 2, NOW);
        assert_eq!(kept(&cache, &key, NOW), Some(2));
        reader.join().unwrap();
        assert_eq!(kept(&cache, &key, NOW), Some(2));
    });
}

#[test]
fn nothing_is_served_after_it_expired_and_was_put() {
    explore("front: get, expiry, put", Some(3), || {
        let key = key("token");
        let cache = warm(&key);
        let later = NOW + AGE;
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || (kept(&cache, &key, NOW), kept(&cache, &key, later)))
        };
        put(&cache, key, 2, later);
        assert_eq!(kept(&cache, &key, later), Some(2));
        let (_, then) = reader.join().unwrap();
        assert_ne!(then, Some(1));
        assert_eq!(kept(&cache, &key, later), Some(2));
    });
}

#[test]
fn nothing_is_served_after_all_was_removed() {
    explore("front: get, offer, forget all", Some(1), || {
        let key = key("token");
        let cache = warm(&key);
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || kept(&cache, &key, NOW))
        };
        cache.remove_all();
        assert_eq!(kept(&cache, &key, NOW), None);
        reader.join().unwrap();
        assert_eq!(kept(&cache, &key, NOW), None);
    });
}

#[test]
fn a_token_in_the_same_place_is_not_taken_for_another() {
    explore("front: two tokens of one slot", None, || {
        let one = key("token");
        let other = (0..).map(|n| key(&n.to_string())).find(|it| it.lot(1024) == one.lot(1024));
        let other = other.unwrap();
        let cache = warm(&one);
        put(&cache, other, 2, NOW);
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || [(); 2].map(|()| kept(&cache, &other, NOW)))
        };
        assert_eq!(kept(&cache, &one, NOW), Some(1));
        cache.remove(&one);
        assert_eq!(kept(&cache, &one, NOW), None);
        assert_eq!(reader.join().unwrap(), [Some(2); 2]);
        assert_eq!(kept(&cache, &one, NOW), None);
    });
}
