use super::*;
use crate::{
    api::{IntrospectionAction, IntrospectionResponse},
    rejection::Reason,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A store, and the key of a token.
fn store() -> (Arc<TokenStore>, Key) {
    let policy = CachePolicy::new()
        .max_age(MINUTE)
        .max_entries(10)
        .negative_max_age(MINUTE)
        .negative_max_entries(10);
    let keys = KeySpace::new(&[0; 32], "a");
    let key = keys.key("token");
    let clock = Clock::frozen(std::time::SystemTime::UNIX_EPOCH + MINUTE);
    (Arc::new(TokenStore::new(keys, clock, policy, Arc::new(Epochs::new()), 10, None)), key)
}

fn good() -> Verdict {
    let mut response: IntrospectionResponse =
        serde_json::from_value(serde_json::json!({ "action": "OK" })).unwrap();
    response.action = IntrospectionAction::Ok;
    Ok(TokenInfo::from(&response))
}

fn bad() -> Verdict {
    Err(Rejection::invalid_token("the access token is unknown"))
}

fn lead(store: &Arc<TokenStore>, key: Key, at_least: AtLeast) -> Lead {
    match store.join(key, Binding::BEARER, at_least) {
        CheckJoin::Lead(lead) => lead,
        _ => panic!("there is nothing to lead"),
    }
}

fn look_up(store: &TokenStore, binding: Binding) -> Option<Verdict> {
    store.look_up("token", binding, store.clock.moment()).1.map(|hit| hit.verdict)
}

fn is_hot(store: &TokenStore) -> bool {
    let (hot, _) = store.cache.as_ref().unwrap();
    hot.get(hot.tag("token"), |_, _| Some(())).is_some()
}

/// A store that knows the token, which was looked up once.
fn warm() -> (Arc<TokenStore>, Key) {
    let (store, key) = store();
    lead(&store, key, AtLeast::Cached).complete(good());
    assert!(look_up(&store, Binding::BEARER).is_some());
    (store, key)
}

fn end(store: &TokenStore, key: Key, all: bool) {
    if all { store.invalidate_all() } else { store.invalidate(key) }
}

#[test]
fn a_token_that_is_looked_up_twice_is_hot_until_it_is_invalidated() {
    for all in [false, true] {
        let (store, key) = warm();
        assert!(!is_hot(&store));
        look_up(&store, Binding::BEARER);
        assert!(is_hot(&store));
        assert!(look_up(&store, Binding { key: Some([1; 32]), certificate: None }).is_none());
        store.clock.advance(MINUTE);
        assert!(look_up(&store, Binding::BEARER).is_none());
        end(&store, key, all);
        assert!(!is_hot(&store), "{all}");
    }
}

#[test]
fn a_look_up_that_an_invalidation_overtakes_makes_nothing_hot() {
    for all in [false, true] {
        let (store, key) = warm();
        let (hot, memory) = store.cache.as_ref().unwrap();
        let epoch = store.epochs.of_copies(&key);
        let entry = memory.valid(&key, Binding::BEARER, store.clock.moment()).unwrap();
        end(&store, key, all);
        hot.offer(epoch, hot.tag("token"), &key, entry);
        assert!(look_up(&store, Binding::BEARER).is_none() && !is_hot(&store), "{all}");
    }
}

#[test]
fn entries_from_before_everything_was_invalidated_are_not_valid_though_they_are_still_there() {
    for verdict in [good(), bad()] {
        let (store, key) = store();
        let (_, memory) = store.cache.as_ref().unwrap();
        let now = store.clock.moment();
        let entry = memory.entry(&key, &good().unwrap(), Binding::BEARER, now, now.monotonic);
        if let Err(rejection) = &verdict {
            memory.put_rejection(key, Binding::BEARER, rejection, now);
        }
        store.epochs.invalidate(|_| true);
        if verdict.is_ok() {
            memory.put(key, entry);
        }
        assert!(store.get(&key, Binding::BEARER).is_none());
        assert!(store.stale(&key, Binding::BEARER, Duration::MAX).is_none());
    }
}

#[tokio::test]
async fn what_was_asked_before_an_invalidation_is_neither_kept_nor_told() {
    for all in [false, true] {
        let (store, key) = store();
        let lead = lead(&store, key, AtLeast::Cached);
        let check = lead.check().clone();
        end(&store, key, all);
        lead.complete(good());
        assert!(check.verdict().await.is_none(), "{all}");
        assert!(store.get(&key, Binding::BEARER).is_none(), "{all}");
    }
}

#[tokio::test]
async fn what_was_told_before_an_invalidation_is_not_used_after_it() {
    let (store, key) = store();
    let lead = lead(&store, key, AtLeast::Cached);
    let check = lead.check().clone();
    lead.complete(good());
    assert!(check.verdict().await.is_some());
    store.invalidate(key);
    assert!(check.verdict().await.is_none());
}

#[tokio::test]
async fn the_invalidation_of_another_token_of_the_shard_changes_nothing_for_who_waits() {
    let (store, key) = store();
    let neighbour = (0..).map(|it| store.key(format!("{it}")));
    let neighbour = neighbour.into_iter().find(|it| it.prefix() % 1024 == key.prefix() % 1024);
    let (lead, lease) = (lead(&store, key, AtLeast::Cached), store.lease(key));
    let check = lead.check().clone();
    store.invalidate(neighbour.unwrap());
    lead.complete(good());
    assert!(check.verdict().await.is_some_and(|verdict| verdict.is_ok()) && !lease.is_void());
    store.invalidate(neighbour.unwrap());
    assert!(check.verdict().await.is_some_and(|verdict| verdict.is_ok()));
    assert!(store.get(&key, Binding::BEARER).is_some());
}

#[test]
fn older_facts_are_not_kept_in_place_of_a_newer_rejection() {
    let (store, key) = store();
    let [old, new] = [(); 2].map(|()| lead(&store, key, AtLeast::New));
    new.complete(bad());
    old.complete(good());
    let known = store.get(&key, Binding::BEARER);
    assert!(known.is_none_or(|known| known.is_err_and(|it| it.reason() == Reason::InvalidToken)));
}

#[test]
fn a_new_value_is_known_by_the_old_one_until_that_is_invalidated() {
    for all in [false, true] {
        let (store, old) = warm();
        let new = store.key("new");
        let until = store.clock.moment().after(MINUTE);
        let alias = Alias { key: new, value: "new".into(), until };
        let update = store.begin_update(old);
        update.commit(new, Some(alias), |known, _| Some(known.clone()));
        assert!(look_up(&store, Binding::BEARER).is_some());
        assert!(store.get(&old, Binding::BEARER).is_none());
        end(&store, old, all);
        assert!(look_up(&store, Binding::BEARER).is_none(), "{all}");
        assert_eq!(store.get(&new, Binding::BEARER).is_some(), !all);
    }
}

#[test]
fn an_update_of_a_token_that_is_invalidated_meanwhile_makes_nothing_known() {
    let (store, old) = warm();
    let new = store.key("new");
    let update = store.begin_update(old);
    assert!(update.is_current() && update.is_only_one());
    store.invalidate(old);
    assert!(!update.is_current());
    let until = store.clock.moment().after(MINUTE);
    let alias = Alias { key: new, value: "new".into(), until };
    update.commit(new, Some(alias), |known, _| Some(known.clone()));
    assert!(store.alias(&old, Binding::BEARER).is_none());
    assert!(store.get(&new, Binding::BEARER).is_none());
}

#[test]
fn a_bucket_is_invalidated_as_a_whole_and_no_other() {
    let (store, key) = warm();
    let other = (0..16).find(|bucket| *bucket != key.bucket()).unwrap();
    let lease = store.lease(key);
    store.invalidate_buckets(|bucket| bucket == other);
    assert!(look_up(&store, Binding::BEARER).is_some() && !lease.is_void());
    store.invalidate_buckets(|bucket| bucket == key.bucket());
    assert!(look_up(&store, Binding::BEARER).is_none() && lease.is_void());
}
