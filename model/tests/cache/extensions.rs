//! Tokens that get a longer life, while they are asked about, changed or ended.

use std::sync::Arc;

use crate::{
    TOKEN, explore,
    verifier::{Verifier, beside, learns},
};

#[test]
fn nothing_from_before_is_kept_after_an_extension() {
    for fresh in [true, false] {
        let name = if fresh { "ask, ask alone and extend" } else { "ask, extend what is known" };
        explore(name, Some(2), move || {
            let verifier = Verifier::extending().warmed();
            let alone = beside(&verifier, |verifier| verifier.ask(true));
            assert_eq!(verifier.extend(fresh).unwrap().facts.extended, 1);
            assert!(verifier.look().is_ok());
            learns(alone);
            assert!(verifier.look().is_ok());
        });
    }
}

#[test]
fn a_token_is_extended_once() {
    explore("two ask and extend", Some(2), || {
        let verifier = Verifier::extending();
        let other = beside(&verifier, |verifier| verifier.extend(true));
        assert!(verifier.extend(true).is_ok());
        learns(other);
        assert_eq!(verifier.token().extensions, 1);
        assert!(verifier.look().is_ok());
    });
}

/// What another one does to the token while it is extended.
fn extends_beside(name: &str, event: fn(&Arc<Verifier>)) {
    type New = fn() -> Arc<Verifier>;
    for (kind, new) in [
        ("ask and extend", Verifier::extending as New),
        ("extend what is known", || Verifier::extending().warmed()),
        ("ask and extend twice", || Verifier::extending().failing()),
    ] {
        explore(&format!("{kind}, {name}"), Some(2), move || {
            let verifier = new();
            let other = beside(&verifier, |verifier| verifier.extend(false));
            event(&verifier);
            let _ = other.join().unwrap();
            assert_eq!(verifier.look().is_err(), verifier.token().revoked);
        });
    }
}

#[test]
fn an_update_before_an_extension_wins() {
    extends_beside("update", |verifier| verifier.change_it());
}

#[test]
fn what_is_forgotten_before_an_extension_is_not_extended() {
    extends_beside("forget", |verifier| verifier.change_and_forget());
}

#[test]
fn a_revoked_token_is_not_extended() {
    extends_beside("revoke", |verifier| {
        verifier.end(TOKEN);
        assert!(verifier.token().revoked && verifier.look().is_err());
    });
}

#[test]
fn a_token_that_was_gone_when_it_was_extended_is_not_known() {
    explore("ask and extend, end elsewhere", Some(3), || {
        let verifier = Verifier::extending();
        let other = beside(&verifier, |verifier| verifier.extend(false));
        verifier.end_elsewhere();
        let _ = other.join().unwrap();
        let _ = verifier.look();
    });
}
