//! What a request takes, as data, and a pure function that tells whether a token grants it.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    rejection::{Rejection, challenge::is_text},
    token::TokenInfo,
};

/// A requirement that a token has to meet. It is evaluated from the token's facts on every request,
/// also when these come from the cache.
///
/// It is given to [`AuthLayerBuilder::require`](crate::AuthLayerBuilder::require) for all requests,
/// or is itself a layer for a route inside the [`AuthLayer`](crate::AuthLayer), whose renderer and
/// realm it uses.
///
/// A fact that a token does not have meets no requirement. As a layer for a route, it refuses requests
/// without a token with 401, which an [`optional`](crate::AuthLayerBuilder::optional) layer lets pass.
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::{Require, RequireScopes};
///
/// // Staff who logged in within the last hour, or a service.
/// let staff = RequireScopes::all(["admin"]).and(Require::max_auth_age(Duration::from_secs(3600)));
/// let requirement = staff.or(RequireScopes::all(["internal"]));
/// ```
#[derive(Clone, Debug)]
pub struct Require(Arc<Rule>);

enum Rule {
    Scopes(Vec<String>),
    Subject,
    Audience(Vec<String>),
    Acr(Vec<String>),
    AuthAge(Duration),
    Test(&'static str, Box<dyn Fn(&TokenInfo) -> bool + Send + Sync>),
    All(Vec<Require>),
    Any(Vec<Require>),
}

/// Requirements of scopes, by the name that reads best on a route.
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_authlete::RequireScopes;
///
/// let reports = get(|| async { "reports" }).route_layer(RequireScopes::all(["reports.read"]));
/// let app: Router = Router::new().route("/reports", reports);
/// ```
#[derive(Debug)]
pub enum RequireScopes {}

impl RequireScopes {
    /// The token has all these scopes. Without any, every good token meets it.
    ///
    /// # Panics
    /// If a scope is not a `scope-token` of RFC 6749 §3.3: no such token could ever be issued.
    #[must_use]
    #[track_caller]
    pub fn all(scopes: impl IntoIterator<Item = impl Into<String>>) -> Require {
        Require::new(Rule::Scopes(names("scope", scopes)))
    }

    /// The token has at least one of these scopes. The challenge names the first.
    ///
    /// # Panics
    /// If there are none, or if one is not a `scope-token` of RFC 6749 §3.3.
    #[must_use]
    #[track_caller]
    pub fn any(scopes: impl IntoIterator<Item = impl Into<String>>) -> Require {
        let scopes = names("scope", scopes);
        assert!(!scopes.is_empty(), "RequireScopes::any needs at least one scope; none was given");
        Require::new(Rule::Any(scopes.into_iter().map(|scope| Self::all([scope])).collect()))
    }
}

impl Require {
    fn new(rule: Rule) -> Self {
        Self(Arc::new(rule))
    }

    /// The token was issued for a user: it has a subject. Refused with 403.
    #[must_use]
    pub fn subject() -> Self {
        Self::new(Rule::Subject)
    }

    /// The token is for one of these resources (RFC 8707), compared to the letter with
    /// [`TokenInfo::audience`]. A token that names no resources is for none. Refused with 401
    /// `invalid_token`, as RFC 9068 §4 says of an audience that does not fit.
    ///
    /// # Panics
    /// If none are given.
    #[must_use]
    #[track_caller]
    pub fn audience(resources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let resources: Vec<String> = resources.into_iter().map(Into::into).collect();
        assert!(!resources.is_empty(), "Require::audience needs at least one resource; none given");
        Self::new(Rule::Audience(resources))
    }

    /// The user's authentication met one of these classes. Refused with 401
    /// `insufficient_user_authentication` and `acr_values` (RFC 9470), the first being preferred.
    ///
    /// # Panics
    /// If none are given, or if one holds a space or cannot stand in a header.
    #[must_use]
    #[track_caller]
    pub fn acr(values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let values = names("acr value", values);
        assert!(!values.is_empty(), "Require::acr needs at least one acr value; none was given");
        Self::new(Rule::Acr(values))
    }

    /// The user was authenticated no longer ago than this, in whole seconds. Refused with 401
    /// `insufficient_user_authentication` and `max_age` (RFC 9470).
    #[must_use]
    pub fn max_auth_age(age: Duration) -> Self {
        Self::new(Rule::AuthAge(Duration::from_secs(age.as_secs())))
    }

    /// The token passes a test of yours. Refused with 403 and the description, which goes to the
    /// client. An `error_description` holds visible ASCII without `"` and `\` (RFC 6750 §3): in the
    /// challenge, `"` becomes `'`, and what else it must not hold becomes `?`.
    /// [`Rejection::description`] has it as it is.
    ///
    /// The test sees all facts that introspection tells: if a token is known by the answer that issued it,
    /// Authlete is asked first. With [`Check::Update`](crate::Check::Update) there are fewer facts: do not
    /// write a test there that is passed by what is missing.
    ///
    /// ```
    /// use tower_authlete::Require;
    ///
    /// let gold = Require::when("for gold members", |token| {
    ///     token.properties().get("plan") == Some("gold")
    /// });
    /// ```
    #[must_use]
    pub fn when(
        description: &'static str,
        test: impl Fn(&TokenInfo) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::new(Rule::Test(description, Box::new(test)))
    }

    /// Both requirements.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(Rule::All(vec![self, other]))
    }

    /// One of both. If the token meets neither, the challenge tells of the first.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::new(Rule::Any(vec![self, other]))
    }

    /// Whether the token meets the requirement, by this clock.
    #[inline]
    pub(crate) fn check(&self, token: &TokenInfo, clock: &Clock) -> Result<(), Rejection> {
        self.denial(token, clock).map_or(Ok(()), |denial| Err(self.rejection(denial)))
    }

    /// The same by what is known of the token so far: if that is not all, nothing is met that a test of
    /// yours decides, which could go by what is missing.
    #[inline]
    pub(crate) fn check_known(&self, token: &TokenInfo, clock: &Clock) -> Result<(), Rejection> {
        if !token.is_complete() && self.has_tests() {
            return Err(Rejection::unavailable(Duration::from_secs(1)));
        }
        self.check(token, clock)
    }

    fn has_tests(&self) -> bool {
        match &*self.0 {
            Rule::Test(..) => true,
            Rule::All(rules) | Rule::Any(rules) => rules.iter().any(Self::has_tests),
            _ => false,
        }
    }

    #[inline]
    fn denial(&self, token: &TokenInfo, clock: &Clock) -> Option<Denial> {
        let met = match &*self.0 {
            Rule::Scopes(scopes) => scopes.iter().all(|scope| token.scopes().contains(scope)),
            Rule::Subject => token.subject().is_some(),
            Rule::Audience(ours) => token.audience().iter().any(|theirs| ours.contains(theirs)),
            Rule::Acr(values) => token.acr().is_some_and(|acr| values.iter().any(|v| v == acr)),
            Rule::AuthAge(max) => token.auth_age(clock.now()).is_some_and(|age| age <= *max),
            Rule::Test(_, test) => test(token),
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

    /// What is to be said of a rule that is not met.
    fn unmet(&self) -> Denial {
        match &*self.0 {
            Rule::Scopes(_) | Rule::All(_) | Rule::Any(_) => Denial::Scopes,
            Rule::Subject => Denial::Forbidden("the access token is not for a user"),
            Rule::Audience(_) => Denial::Audience,
            Rule::Acr(values) => Denial::Authentication { acr: values.clone(), max_age: None },
            Rule::AuthAge(max) => Denial::Authentication { acr: Vec::new(), max_age: Some(*max) },
            Rule::Test(description, _) => Denial::Forbidden(description),
        }
    }

    fn rejection(&self, denial: Denial) -> Rejection {
        match denial {
            Denial::Scopes => {
                let mut scopes = self.scopes();
                let mut seen = Vec::new();
                scopes.retain(|scope| {
                    !seen.contains(scope) && {
                        seen.push(scope);
                        true
                    }
                });
                let description = "the access token does not have the scopes that this takes";
                Rejection::insufficient_scope(description, Some(scopes.join(" ")))
            }
            Denial::Forbidden(description) => Rejection::insufficient_scope(description, None),
            Denial::Audience => {
                Rejection::invalid_token("the access token is for another resource server")
            }
            Denial::Authentication { acr, max_age } => {
                let acr = (!acr.is_empty()).then(|| acr.join(" "));
                Rejection::insufficient_user_authentication(acr, max_age)
            }
        }
    }

    /// The scopes that would do, those the token has already included (RFC 6750 §3).
    fn scopes(&self) -> Vec<&str> {
        match &*self.0 {
            Rule::Scopes(scopes) => scopes.iter().map(String::as_str).collect(),
            Rule::All(all) => all.iter().flat_map(Self::scopes).collect(),
            Rule::Any(any) => any.first().map(Self::scopes).unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// Why a requirement is not met.
enum Denial {
    Scopes,
    Forbidden(&'static str),
    Audience,
    Authentication { acr: Vec<String>, max_age: Option<Duration> },
}

impl Denial {
    /// The first of two denials, and with it what the second adds of the same kind: one step-up
    /// answers both.
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

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scopes(scopes) => f.debug_tuple("Scopes").field(scopes).finish(),
            Self::Subject => f.write_str("Subject"),
            Self::Audience(resources) => f.debug_tuple("Audience").field(resources).finish(),
            Self::Acr(values) => f.debug_tuple("Acr").field(values).finish(),
            Self::AuthAge(age) => f.debug_tuple("AuthAge").field(age).finish(),
            Self::Test(description, _) => f.debug_tuple("Test").field(description).finish(),
            Self::All(all) => f.debug_tuple("All").field(all).finish(),
            Self::Any(any) => f.debug_tuple("Any").field(any).finish(),
        }
    }
}

/// Names that stand in a list separated by spaces: `1*NQCHAR` (RFC 6749 appendix A).
#[track_caller]
fn names(kind: &str, names: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    for name in &names {
        let legal = !name.is_empty() && is_text(name) && !name.contains([' ', '"', '\\']);
        assert!(
            legal,
            "{name:?} is no {kind}: give one name at a time, of visible ASCII characters without \
             quotes and backslashes"
        );
    }
    names
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::{api::IntrospectionResponse, rejection::Reason};

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

    #[test]
    #[should_panic(expected = "is no scope")]
    fn two_scopes_in_one_string_are_refused_when_the_app_is_built() {
        let _ = RequireScopes::all(["read write"]);
    }
}
