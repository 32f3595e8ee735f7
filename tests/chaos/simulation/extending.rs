//! Which tokens may have been extended, since a layer admitted requests with them.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use rand::RngExt;

use super::{
    driver::Driver,
    holders::Shown,
    model::{Order, With},
    settings::{LIFE, Settings},
    waiting::{Answered, Route},
};

/// Extensions that may be in flight, by token and layer.
pub(crate) type Extensions = BTreeMap<(usize, usize), Extension>;

#[derive(Clone, Copy)]
pub(crate) struct Extension {
    since: Order,
    /// A request was admitted that asks for it.
    admitted: bool,
    /// The latest expiry that it may have caused so far.
    until: SystemTime,
}

impl Driver {
    /// Uses a token that expires soon at a layer that extends it, concurrently with other operations.
    pub(crate) async fn grow_old(&mut self) {
        self.settle().await;
        let (soon, second) =
            (self.now() + self.time_scale().seconds(LIFE), self.time_scale().second);
        let ends = |token: &usize| self.tokens[*token].lives_until < soon;
        let Some(token) = self.tokens.in_use().rev().find(ends) else { return };
        let (bound, sites) = (self.tokens[token].bound, &self.environment.sites);
        let extends = |settings: &Settings| {
            settings.extends.is_some() && settings.admits(Shown::by_holder(bound), bound)
        };
        let layers = (0..sites.len()).filter(|layer| extends(&sites[*layer].settings));
        let layers: Vec<_> = layers.collect();
        if layers.is_empty() {
            return;
        }
        let layer = layers[self.rng.random_range(0..layers.len())];
        for _ in 0..4 {
            self.holders_request(token, layer, None);
            self.settle().await;
            if !self.tokens.contains(token) {
                return;
            }
            match self.rng.random_range(0..4) {
                0 => self.change_elsewhere(token).await,
                1 if self.environment.sites[layer].settings.steps => {
                    let back = i64::try_from((second * 50).as_millis()).unwrap_or_default();
                    self.step(layer, -back);
                }
                _ => {}
            }
            let by = second * self.rng.random_range(2..35);
            self.pass(by).await;
            self.note(format!("{token} grows older by {} ms", by.as_millis()));
        }
        self.audit().await;
    }

    /// A request that may cause an extension starts.
    pub(super) fn touch(&mut self, token: usize, layer: usize) {
        if self.environment.sites[layer].settings.extends.is_none() {
            return;
        }
        let since = self.next();
        // An old value may be accepted for the new one.
        for token in self.tokens.line(token, layer) {
            let new = Extension { since, admitted: false, until: SystemTime::UNIX_EPOCH };
            self.extensions.entry((token, layer)).or_insert(new);
        }
        self.may_be_extended();
    }

    /// A token has a new value, under which extensions in flight continue.
    pub(super) fn hand_extensions_on(&mut self, old: usize, new: usize) {
        let of_old = self.extensions.range((old, 0)..=(old, usize::MAX));
        let of_new: Vec<_> = of_old.map(|((_, layer), it)| ((new, *layer), *it)).collect();
        self.extensions.extend(of_new);
    }

    /// Tokens in use may be extended now, and until no work is in flight.
    pub(crate) fn may_be_extended(&mut self) {
        let (now, order, time_scale) = (self.now(), self.next(), self.time_scale());
        for ((token, layer), extension) in &mut self.extensions {
            let (token, site) = (&self.tokens[*token], &self.environment.sites[*layer]);
            let going = site.clock.going(extension.since, order);
            // Expired tokens are not brought back, but by who cannot know that they are expired.
            if now >= token.dead_from.max(extension.until) + going.behind {
                continue;
            }
            let longest = token.seen[*layer].map(|first| first + site.never_beyond(time_scale));
            // A token that is not used for so long is counted anew (documented), by a clock that is not ours.
            let longest = longest.filter(|longest| time_scale.frozen || now < *longest);
            let until = now + time_scale.seconds(LIFE);
            let until = longest.map_or(until, |longest| until.min(longest));
            extension.until = extension.until.max(until + going.ahead + time_scale.lag());
        }
    }

    /// Work in flight has ended, unless Authlete fails. A request that was refused extends nothing.
    pub(super) fn end_extensions(&mut self, answered: &[Answered]) {
        for answered in answered {
            let With::Token { number, .. } = answered.plan.with else { continue };
            let layer = answered.plan.layer;
            if answered.reply.status == StatusCode::OK {
                let seen = &mut self.tokens[number].seen[layer];
                *seen = Some(seen.map_or(answered.reply.until, |it| it.min(answered.reply.until)));
            }
            if !self.is_admitted(answered) {
                self.tally.rules.not_extended += 1;
                continue;
            }
            // It may have got another value since, by whatever layer.
            for token in self.tokens.lineage(number) {
                let extension = self.extensions.get_mut(&(token, layer));
                extension.into_iter().for_each(|it| it.admitted = true);
            }
        }
        self.may_be_extended();
        for ((token, _), extension) in &self.extensions {
            let token = &mut self.tokens[*token];
            if extension.admitted && extension.until > token.dead_from {
                token.dead_from = extension.until;
            }
        }
        // While Authlete fails, calls may be made again after a while.
        let fails = self.failures.now();
        self.extensions.retain(|_, it| fails && it.admitted);
    }

    /// Whether a request can have led to an extension.
    fn is_admitted(&self, answered: &Answered) -> bool {
        let Answered { plan, began, reply, .. } = answered;
        let With::Token { number, .. } = plan.with else { return false };
        let settings = &self.environment.sites[plan.layer].settings;
        let Some(waits) = settings.extends else { return false };
        // It was extended before something else became known that speaks against it.
        let late = waits && self.tokens[number].changes_during(*began, reply.ended);
        match reply.status {
            StatusCode::OK => true,
            _ if late => true,
            // Requirements of routes are looked at after an extension that is waited for.
            StatusCode::FORBIDDEN => {
                waits && plan.scope.is_some() && plan.scope != settings.requires
            }
            // By the layer inside.
            _ => waits && plan.route == Route::Nested,
        }
    }
}

impl super::environment::Site {
    /// How long a token lives at most since the layer saw it first.
    fn never_beyond(&self, time_scale: super::time_scale::TimeScale) -> Duration {
        time_scale.seconds(self.settings.never_beyond)
    }
}
