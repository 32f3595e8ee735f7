//! Evaluates requirements: from the facts of a token and the time alone.

use std::time::Duration;

use super::require::{Require, Rule};
use crate::{clock::Clock, rejection::Rejection, token::TokenInfo};

/// What is missing where a requirement is not met.
enum Denial {
    Scopes,
    Forbidden(&'static str),
    Audience,
    Authentication { acr: Vec<String>, max_age: Option<Duration> },
}

impl Require {
    /// Evaluates the requirement by these facts, at the time of this clock.
    #[inline]
    pub(crate) fn check(&self, token: &TokenInfo, clock: &Clock) -> Result<(), Rejection> {
        self.denial(token, clock).map_or(Ok(()), |denial| Err(self.rejection(denial)))
    }

    /// As [`check`](Self::check), for facts that may be incomplete: no [`Require::when`] is evaluated by
    /// those, since it could be passed by a fact that is missing.
    #[inline]
    pub(crate) fn check_known(&self, token: &TokenInfo, clock: &Clock) -> Result<(), Rejection> {
        if !token.is_complete() && self.has_tests() {
            return Err(Rejection::unavailable(Duration::from_secs(1)));
        }
        self.check(token, clock)
    }

    fn has_tests(&self) -> bool {
        match self.rule() {
            Rule::Test(_) => true,
            Rule::All(rules) | Rule::Any(rules) => rules.iter().any(Self::has_tests),
            _ => false,
        }
    }

    #[inline]
    fn denial(&self, token: &TokenInfo, clock: &Clock) -> Option<Denial> {
        let met = match self.rule() {
            Rule::Scopes(scopes) => scopes.iter().all(|scope| token.scopes().contains(scope)),
            Rule::Subject => token.subject().is_some(),
            Rule::Audience(ours) => token.audience().iter().any(|theirs| ours.contains(theirs)),
            Rule::Acr(values) => token.acr().is_some_and(|acr| values.iter().any(|v| v == acr)),
            Rule::AuthAge(max) => token.auth_age(clock.now()).is_some_and(|age| age <= *max),
            Rule::Test(test) => (test.passes)(token),
            Rule::All(all) => {
                let denials = all.iter().filter_map(|require| require.denial(token, clock));
                return denials.reduce(Denial::merge);
            }
            Rule::Any(any) => {
                let mut denials = any.iter().map(|require| require.denial(token, clock));
                let first = denials.next().flatten()?;
                return denials.all(|denial| denial.is_some()).then_some(first);
            }
        };
        if met { None } else { Some(self.unmet()) }
    }

    /// The denial of a rule that is not met.
    fn unmet(&self) -> Denial {
        match self.rule() {
            Rule::Scopes(_) | Rule::All(_) | Rule::Any(_) => Denial::Scopes,
            Rule::Subject => Denial::Forbidden("the access token is not for a user"),
            Rule::Audience(_) => Denial::Audience,
            Rule::Acr(values) => Denial::Authentication { acr: values.clone(), max_age: None },
            Rule::AuthAge(max) => Denial::Authentication { acr: Vec::new(), max_age: Some(*max) },
            Rule::Test(test) => Denial::Forbidden(test.description),
        }
    }

    fn rejection(&self, denial: Denial) -> Rejection {
        match denial {
            Denial::Scopes => {
                let mut scopes = Vec::new();
                self.add_scopes(&mut scopes);
                Rejection::insufficient_scope(scopes)
            }
            Denial::Forbidden(description) => Rejection::denied(description, None),
            Denial::Audience => {
                Rejection::invalid_token("the access token is for another resource server")
            }
            Denial::Authentication { acr, max_age } => {
                let rejection = Rejection::insufficient_authentication().with_acr_values(acr);
                match max_age {
                    Some(age) => rejection.with_max_age(age),
                    None => rejection,
                }
            }
        }
    }

    /// Adds the scopes that meet the requirement, each once, those of the token included (RFC 6750 §3).
    fn add_scopes<'r>(&'r self, to: &mut Vec<&'r str>) {
        match self.rule() {
            Rule::Scopes(scopes) => {
                for scope in scopes {
                    if !to.contains(&scope.as_str()) {
                        to.push(scope);
                    }
                }
            }
            Rule::All(all) => all.iter().for_each(|require| require.add_scopes(to)),
            Rule::Any(any) => any.iter().take(1).for_each(|require| require.add_scopes(to)),
            _ => {}
        }
    }
}

impl Denial {
    /// The first of two denials. Two of the user's authentication become one: a client answers both by
    /// one step-up (RFC 9470 §4).
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::Authentication { acr, max_age },
                Self::Authentication { acr: more, max_age: other },
            ) => Self::Authentication {
                acr: if acr.is_empty() { more } else { acr },
                max_age: max_age.into_iter().chain(other).min(),
            },
            (first, _) => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::{api::IntrospectionResponse, authorize::RequireScopes, rejection::Reason};

    const NOW: SystemTime = UNIX_EPOCH;

    fn token(scopes: &[&str]) -> TokenInfo {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        TokenInfo::from(&IntrospectionResponse { scopes, ..Default::default() })
    }

    fn denied(require: &Require, token: &TokenInfo) -> Option<(Reason, Option<String>)> {
        let rejection = require.check(token, &Clock::frozen(NOW)).err()?;
        Some((rejection.reason(), rejection.scope().map(Into::into)))
    }

    #[test]
    fn absent_scopes_are_no_scopes() {
        let expected = Some((Reason::InsufficientScope, Some("a b".into())));
        assert_eq!(denied(&RequireScopes::all(["a", "b"]), &token(&[])), expected);
        assert_eq!(denied(&RequireScopes::all(["a", "b"]), &token(&["a"])), expected);
        assert_eq!(denied(&RequireScopes::all(["a", "b"]), &token(&["b", "a"])), None);
    }

    #[test]
    fn no_scopes_at_all_are_met_by_every_token() {
        let nothing = RequireScopes::all(Vec::<String>::new());
        assert_eq!(denied(&nothing, &token(&[])), None);
        assert_eq!(denied(&nothing, &token(&["a"])), None);
    }

    #[test]
    fn scopes_are_compared_to_the_letter() {
        let require = RequireScopes::all(["read"]);
        for scope in ["Read", "read ", "read2", "rea", ""] {
            assert!(denied(&require, &token(&[scope])).is_some());
        }
    }

    #[test]
    fn alternatives_nest_and_the_first_is_told() {
        let require = RequireScopes::any(["a", "b"])
            .and(RequireScopes::all(["c"]))
            .or(RequireScopes::all(["admin"]));
        for good in [&["a", "c"][..], &["b", "c"], &["admin"]] {
            assert_eq!(denied(&require, &token(good)), None);
        }
        let expected = Some((Reason::InsufficientScope, Some("a c".into())));
        for bad in [&[][..], &["a"], &["c"], &["b"]] {
            assert_eq!(denied(&require, &token(bad)), expected);
        }
    }

    #[test]
    fn facts_that_a_token_lacks_meet_nothing() {
        let nothing = token(&[]);
        let requirements = [
            (Require::subject(), Reason::InsufficientScope),
            (Require::audience(["https://api.example.com"]), Reason::InvalidToken),
            (Require::acr(["gold"]), Reason::InsufficientUserAuthentication),
            (Require::max_auth_age(Duration::MAX), Reason::InsufficientUserAuthentication),
        ];
        for (require, reason) in requirements {
            assert_eq!(denied(&require, &nothing), Some((reason, None)), "{require:?}");
        }
    }

    #[test]
    fn one_step_up_challenge_tells_of_class_and_age() {
        let require = Require::acr(["gold", "silver"])
            .and(Require::max_auth_age(Duration::from_secs(60)))
            .and(Require::max_auth_age(Duration::from_secs(30)));
        let rejection = require.check(&token(&[]), &Clock::frozen(NOW)).unwrap_err();
        assert_eq!(rejection.acr_values(), Some("gold silver"));
        assert_eq!(rejection.max_age(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn the_age_of_an_authentication_is_judged_by_the_clock() {
        let response = IntrospectionResponse { auth_time: Some(100), ..Default::default() };
        let token = TokenInfo::from(&response);
        let require = Require::max_auth_age(Duration::from_secs(30));
        let at = |seconds| {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            require.check(&token, &Clock::frozen(now))
        };
        assert!(at(130).is_ok());
        assert!(at(131).is_err());
        // Clocks that differ make nobody older.
        assert!(at(99).is_ok());
    }
}
