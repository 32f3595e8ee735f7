//! Tokens that are issued here, while they are asked about or revoked.

use std::sync::Arc;

use loom::future::block_on;

use crate::{
    TOKEN, explore,
    layer::{Layer, beside, looks},
};

/// A refresh token that is issued with the token.
const REFRESH: &str = "refresh";

/// A layer whose token does not exist yet.
fn unissued() -> Arc<Layer> {
    let layer = Layer::new();
    layer.authlete.withdraw();
    layer
}

/// As a token endpoint does.
fn issue(layer: &Layer) {
    let issue = layer.lifecycle.begin_issue();
    let issued = layer.authlete.issue();
    layer.lifecycle.remember_pair(REFRESH, TOKEN);
    layer.lifecycle.remember(TOKEN, issued, issue);
}

#[test]
fn what_was_told_before_a_token_was_issued_is_not_told_after_it() {
    explore("ask, issue", Some(3), || {
        let layer = unissued();
        // Not checked: that the token does not exist is no end.
        let other = beside(&layer, |layer| layer.look_unchecked());
        issue(&layer);
        assert!(layer.look().is_ok());
        let _ = other.join().unwrap();
        assert!(layer.look().is_ok());
    });
}

#[test]
fn nor_after_it_was_invalidated_since_it_was_issued_elsewhere() {
    type Event = fn(&Layer);
    for (name, event) in [
        ("ask, issue elsewhere and invalidate", (|it| it.lifecycle.invalidate(TOKEN)) as Event),
        ("ask, issue elsewhere and invalidate all", |it| it.lifecycle.invalidate_all()),
    ] {
        explore(name, Some(3), move || {
            let layer = unissued();
            let other = beside(&layer, |layer| layer.look_unchecked());
            layer.authlete.issue();
            event(&layer);
            assert!(layer.look().is_ok());
            let _ = other.join().unwrap();
            assert!(layer.look().is_ok());
        });
    }
}

#[test]
fn what_a_token_is_issued_with_does_not_take_the_place_of_what_is_learnt_later() {
    explore("issue, change elsewhere and ask", Some(3), || {
        let layer = unissued();
        let issued = layer.authlete.issue();
        let other = beside(&layer, move |layer| {
            let issue = layer.lifecycle.begin_issue();
            layer.lifecycle.remember(TOKEN, issued, issue);
        });
        layer.change_elsewhere();
        assert!(layer.ask(false).is_ok());
        other.join().unwrap();
        assert!(layer.look().is_ok());
    });
}

#[test]
fn a_token_that_is_revoked_when_it_is_issued_is_not_known() {
    type Event = fn(&Layer);
    for (name, event) in [
        (
            "issue, revoke",
            (|layer| {
                block_on(layer.lifecycle.revoke(TOKEN)).unwrap();
            }) as Event,
        ),
        // As a revocation endpoint does with a refresh token.
        ("issue, revoke what it was issued with", |layer| {
            layer.revoke_elsewhere();
            layer.lifecycle.invalidate_issues();
            layer.lifecycle.invalidate_pair(REFRESH);
        }),
        ("issue, invalidate all", |layer| {
            layer.revoke_elsewhere();
            layer.lifecycle.invalidate_all();
        }),
    ] {
        explore(name, Some(3), move || {
            let layer = unissued();
            let other = beside(&layer, |layer| issue(&layer));
            event(&layer);
            other.join().unwrap();
            assert!(layer.look_unchecked().is_err() || !layer.token().is_revoked);
        });
    }
}

#[test]
fn a_token_is_known_when_it_was_issued() {
    explore("issue, look, invalidate another", Some(2), || {
        let layer = unissued();
        issue(&layer);
        let other = looks(&layer);
        layer.invalidate_neighbour();
        assert!(layer.look().is_ok() && other.join().unwrap().is_ok());
        assert_eq!(layer.token().introspections, 0);
    });
}
