//! The reference model: the state of tokens at Authlete, kept independently of the layers, and whether a
//! response agrees with it.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::{clocks::Going, holders::Bound, tally::Rules};

/// A position in the order of events.
pub(crate) type Order = u64;

/// A fact at Authlete; `None` while it is unknown, as after a change without a response.
#[derive(Default, Clone)]
pub(crate) struct Fact(Vec<(Order, SystemTime, Option<bool>)>);

impl Fact {
    pub(crate) fn new(order: Order, at: SystemTime, value: bool) -> Self {
        Self(vec![(order, at, Some(value))])
    }

    pub(crate) fn set(&mut self, order: Order, at: SystemTime, value: Option<bool>) {
        self.0.push((order, at, value));
    }

    /// Whether it has been true since before that event.
    pub(crate) fn is_so_since(&self, order: Order) -> bool {
        self.0.last().is_some_and(|(since, _, now)| *since <= order && *now == Some(true))
    }

    /// Whether it changed while the request was in flight.
    fn changes(&self, began: Order, ended: Order) -> bool {
        let before = self.0.iter().rfind(|(order, ..)| *order <= began);
        self.0.iter().any(|(order, ..)| (began + 1..=ended).contains(order))
            || before.is_none_or(|it| it.2.is_none())
    }

    /// From this event on it is unknown.
    pub(crate) fn doubt_from(&mut self, order: Order, at: SystemTime) {
        let place = self.0.partition_point(|(before, ..)| *before <= order);
        self.0.insert(place, (order, at, None));
        for (.., later) in &mut self.0[place..] {
            *later = later.filter(|it| !it);
        }
    }

    /// Whether it was so from before the request began until it was answered, and the layer has to know.
    fn surely(&self, value: bool, seen: &Seen, bound: Duration, learnt: &[Order]) -> bool {
        let begin = self.0.iter().rposition(|(order, ..)| *order <= seen.began);
        let Some(begin) = begin else { return false };
        let mut during = self.0[begin..].iter().take_while(|(order, ..)| *order <= seen.ended);
        if !during.all(|(.., now)| *now == Some(value)) {
            return false;
        }
        // Since when it has been so: changes to what it was before change nothing.
        let since = self.0[..begin].iter().rposition(|(.., now)| *now != Some(value));
        let (order, at, _) = self.0[since.map_or(0, |before| before + 1)];
        let first = since.is_none();
        let told = learnt.iter().any(|learnt| (order..=seen.began).contains(learnt));
        let old = seen.at >= at + bound;
        // What was so from the start, nobody has known otherwise.
        told || old || first
    }
}

pub(crate) const SCOPES: [&str; 2] = ["read", "write"];

/// What a layer's endpoint issued with a token.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) refresh: String,
    pub(crate) layer: usize,
    /// The scopes of a refreshed token.
    pub(crate) granted: [bool; 2],
}

pub(crate) struct Token {
    pub(crate) value: String,
    pub(crate) subject: String,
    pub(crate) bound: Bound,
    pub(crate) pair: Option<Pair>,
    pub(crate) alive: Fact,
    /// Whether it has the scope of that place in [`SCOPES`].
    pub(crate) scopes: [Fact; 2],
    /// Its expiry without extensions.
    pub(crate) lives_until: SystemTime,
    /// Its latest expiry, including extensions.
    pub(crate) dead_from: SystemTime,
    /// By layer: when it was told to forget what it knew, or brought up to date.
    pub(crate) learnt: Vec<Vec<Order>>,
    /// By layer: by when it has surely seen the token, by whatever value.
    pub(crate) seen: Vec<Option<SystemTime>>,
    /// The origin of its revocation.
    pub(crate) ended_by: Option<String>,
    /// The value that it got in place of this one, and by which layer.
    pub(crate) successor: Option<(String, usize)>,
}

impl Token {
    /// Whether anything was changed at Authlete or forgotten by the layer meanwhile, as far as it
    /// matters.
    fn is_disturbed(&self, seen: &Seen) -> bool {
        let during = seen.began..=seen.ended;
        self.ended_by.is_some()
            || seen.going.stepped
            || self.changes_during(seen.began, seen.ended)
            || self.learnt[seen.layer].iter().any(|learnt| during.contains(learnt))
    }

    /// Whether anything was changed at Authlete meanwhile, as far as is known.
    pub(crate) fn changes_during(&self, began: Order, ended: Order) -> bool {
        let facts = [&self.alive, &self.scopes[0], &self.scopes[1]];
        facts.into_iter().any(|fact| fact.changes(began, ended))
    }

    /// Whether it is the newest value of a token that nobody ended.
    pub(crate) fn is_current(&self) -> bool {
        self.ended_by.is_none() && self.successor.is_none()
    }
}

/// How long a layer may use outdated facts.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) age: Duration,
    /// What is added during an outage.
    pub(crate) stale: Duration,
    /// Whether it refuses for a while after trouble because of it.
    pub(crate) breaks: bool,
    /// For how long it accepts the old value of a token that has a new one.
    pub(crate) overlap: Duration,
}

/// The credentials of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum With {
    Nothing,
    /// A token that never existed.
    Unknown,
    /// A token, by number, and whether by who may use it.
    Token {
        number: usize,
        entitled: bool,
    },
}

/// A request and its response.
pub(crate) struct Seen {
    pub(crate) with: With,
    /// Whether it had a proof.
    pub(crate) proven: bool,
    /// Whether another request has the same proof.
    pub(crate) replayed: bool,
    pub(crate) layer: usize,
    pub(crate) bounds: Bounds,
    /// For how long it may refuse by what was so.
    pub(crate) late: Duration,
    /// Whether the layer is optional.
    pub(crate) optional: bool,
    /// Whether the layer extends tokens.
    pub(crate) extends: bool,
    /// Whether the layer knows whom a token is for.
    pub(crate) knows_subjects: bool,
    /// Whether Authlete tells the layer that a token has expired.
    pub(crate) asks_expiry: bool,
    /// Which scopes it takes, by their place in [`SCOPES`].
    pub(crate) takes: [bool; 2],
    /// How the layer's clock went meanwhile.
    pub(crate) going: Going,
    /// Whether proofs that are new there may be too old by a time that its clock has shown.
    pub(crate) doubts_proofs: bool,
    pub(crate) began: Order,
    pub(crate) at: SystemTime,
    pub(crate) ended: Order,
    pub(crate) until: SystemTime,
    /// Until when it had to be answered, if that is known.
    pub(crate) latest: Option<SystemTime>,
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// Authlete failed meanwhile.
    pub(crate) fault: bool,
    /// It did so, or a moment before.
    pub(crate) trouble: bool,
}

/// What is wrong with the answer to a request with this token, if it is one that is known.
pub(crate) fn judge(token: Option<&Token>, seen: &Seen, rules: &mut Rules) -> Result<(), String> {
    let accepted = seen.status == StatusCode::OK;
    match seen.status {
        StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {}
        StatusCode::SERVICE_UNAVAILABLE if seen.fault => {}
        StatusCode::SERVICE_UNAVAILABLE if seen.trouble && seen.bounds.breaks => rules.broken += 1,
        // A proof is not sent twice, so that such a request cannot be asked about again when its token
        // was changed, as the layer itself does.
        StatusCode::SERVICE_UNAVAILABLE
            if seen.proven
                && token.is_none_or(|token| seen.extends || token.is_disturbed(seen)) => {}
        status => return Err(format!("{status} though nothing was wrong")),
    }
    if let Some(latest) = seen.latest
        && let Ok(late) = seen.until.duration_since(latest)
        && !late.is_zero()
    {
        return Err(format!("the deadline was over for {} ms", late.as_millis()));
    }
    match (seen.with, token) {
        (With::Nothing, _) => {
            rules.anonymous += 1;
            let expected = if seen.optional { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            let wrong = format!("{} for nobody, in place of {expected}", seen.status);
            if seen.status == expected { Ok(()) } else { Err(wrong) }
        }
        (With::Token { entitled, .. }, Some(token)) => judge_token(token, entitled, seen, rules),
        _ => {
            rules.unknown += 1;
            if accepted { Err("an unknown token was accepted".into()) } else { Ok(()) }
        }
    }
}

fn judge_token(
    token: &Token,
    entitled: bool,
    seen: &Seen,
    rules: &mut Rules,
) -> Result<(), String> {
    let accepted = seen.status == StatusCode::OK;
    if let Some(reason) = reason_to_refuse(token, entitled, seen, rules)
        && accepted
    {
        return Err(format!("a token was accepted that {reason}"));
    }
    let subject = if seen.knows_subjects { &token.subject } else { "nobody" };
    if accepted && seen.body != subject {
        return Err(format!("{subject} was taken for {}", seen.body));
    }
    let refused = matches!(seen.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if entitled && !seen.replayed && is_surely_good(token, seen) {
        rules.good += 1;
        rules.good_bound += u64::from(token.bound != Bound::Nobody);
        if refused {
            return Err(format!("a good token with enough scopes got {}", seen.status));
        }
    }
    Ok(())
}

/// Why a token must not be accepted.
fn reason_to_refuse(
    token: &Token,
    entitled: bool,
    seen: &Seen,
    rules: &mut Rules,
) -> Option<String> {
    let learnt = &token.learnt[seen.layer];
    let stale = if seen.trouble { seen.bounds.stale } else { Duration::ZERO };
    let bound = seen.bounds.age + stale;
    let mut reason = None;
    if !entitled {
        rules.not_the_holder += 1;
        reason = Some(format!("is bound to {:?}, by somebody else", token.bound));
    }
    // An old value stands for the new one for a while, where it got that.
    let by = |(_, by): &(String, usize)| *by == seen.layer;
    let overlaps = token.successor.as_ref().is_some_and(by);
    let of_value = if overlaps { bound.max(seen.bounds.overlap) } else { bound };
    if token.alive.surely(false, seen, of_value, learnt) {
        rules.ended += 1;
        let who = token.ended_by.as_deref().unwrap_or("nobody");
        reason = Some(format!("was ended by {who}"));
    }
    // By a clock that is behind it is still good, until somebody is asked who knows better.
    let behind = seen.going.behind.min(if seen.asks_expiry { bound } else { Duration::MAX });
    if seen.at >= token.dead_from + behind {
        rules.expired += 1;
        rules.expired_by_slow_clocks += u64::from(!seen.going.behind.is_zero());
        reason = Some("had expired".into());
    }
    for (place, scope) in token.scopes.iter().enumerate() {
        if seen.takes[place] && scope.surely(false, seen, bound, learnt) {
            rules.narrowed += 1;
            reason = Some(format!("did not have `{}` any more", SCOPES[place]));
        }
    }
    reason
}

fn is_surely_good(token: &Token, seen: &Seen) -> bool {
    let learnt = &token.learnt[seen.layer];
    let late = seen.late;
    let mut scopes = token.scopes.iter().zip(seen.takes);
    scopes.all(|(scope, takes)| !takes || scope.surely(true, seen, late, learnt))
        && token.alive.surely(true, seen, late, learnt)
        && seen.until + seen.going.ahead < token.lives_until
        && !seen.going.stepped
        && !(seen.proven && seen.doubts_proofs)
}
