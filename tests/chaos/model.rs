//! What is true of tokens, kept beside the layers and without looking at them, and whether an answer
//! fits it.

use std::time::{Duration, SystemTime};

use http::StatusCode;

/// The order of all that happens.
pub(crate) type Order = u64;

/// Something that is true or not at Authlete; `None` while nobody knows, as after a change that was
/// never answered.
#[derive(Default)]
pub(crate) struct Fact(Vec<(Order, SystemTime, Option<bool>)>);

impl Fact {
    pub(crate) fn set(&mut self, order: Order, at: SystemTime, value: Option<bool>) {
        self.0.push((order, at, value));
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

pub(crate) struct Token {
    pub(crate) value: String,
    pub(crate) subject: String,
    pub(crate) alive: Fact,
    /// Whether it has the scope of that place in [`SCOPES`].
    pub(crate) scopes: [Fact; 2],
    /// It lives until then, or longer if layers extend it.
    pub(crate) lives_until: SystemTime,
    /// It does not live any longer, whatever layers do.
    pub(crate) dead_from: SystemTime,
    /// By layer: when it was told to forget what it knew, or brought up to date.
    pub(crate) learnt: Vec<Vec<Order>>,
    /// Who ended it.
    pub(crate) ended_by: Option<String>,
}

/// How much a layer may be behind.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) age: Duration,
    /// What is added to it while Authlete is in trouble.
    pub(crate) stale: Duration,
    /// For how long after trouble it may still refuse because of it.
    pub(crate) open: Duration,
}

/// A request and its answer.
pub(crate) struct Seen {
    pub(crate) layer: usize,
    pub(crate) bounds: Bounds,
    /// By its place in [`SCOPES`].
    pub(crate) scope: Option<usize>,
    pub(crate) began: Order,
    pub(crate) at: SystemTime,
    pub(crate) ended: Order,
    pub(crate) until: SystemTime,
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// Authlete failed meanwhile.
    pub(crate) fault: bool,
    /// It did so, or a moment before.
    pub(crate) trouble: bool,
}

/// How often which rule was looked at.
#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) ended: u64,
    pub(crate) expired: u64,
    pub(crate) narrowed: u64,
    pub(crate) good: u64,
    pub(crate) unknown: u64,
}

/// What is wrong with the answer to a request with this token; none: one that never was.
pub(crate) fn judge(token: Option<&Token>, seen: &Seen, rules: &mut Rules) -> Result<(), String> {
    let accepted = seen.status == StatusCode::OK;
    match seen.status {
        StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {}
        StatusCode::SERVICE_UNAVAILABLE if seen.fault => {}
        StatusCode::SERVICE_UNAVAILABLE if seen.trouble && !seen.bounds.open.is_zero() => {}
        status => return Err(format!("{status} though nothing was wrong")),
    }
    let Some(token) = token else {
        rules.unknown += 1;
        return if accepted { Err("an unknown token was accepted".into()) } else { Ok(()) };
    };
    let learnt = &token.learnt[seen.layer];
    let stale = if seen.trouble { seen.bounds.stale } else { Duration::ZERO };
    let bound = seen.bounds.age + stale;
    if token.alive.surely(false, seen, bound, learnt) {
        rules.ended += 1;
        if accepted {
            let who = token.ended_by.as_deref().unwrap_or("nobody");
            return Err(format!("a token was accepted that was ended by {who}"));
        }
    }
    if seen.at >= token.dead_from {
        rules.expired += 1;
        if accepted {
            return Err("a token was accepted that had expired".into());
        }
    }
    let scope = seen.scope.map(|place| (SCOPES[place], &token.scopes[place]));
    if let Some((name, fact)) = scope
        && fact.surely(false, seen, bound, learnt)
    {
        rules.narrowed += 1;
        if accepted {
            return Err(format!("a token was accepted that did not have `{name}` any more"));
        }
    }
    if accepted && seen.body != token.subject {
        return Err(format!("{} was taken for {}", token.subject, seen.body));
    }
    let late = seen.bounds.age + seen.bounds.stale;
    let enough = scope.is_none_or(|(_, fact)| fact.surely(true, seen, late, learnt));
    if enough && token.alive.surely(true, seen, late, learnt) && seen.until < token.lives_until {
        rules.good += 1;
        if matches!(seen.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(format!("a good token with enough scopes got {}", seen.status));
        }
    }
    Ok(())
}
