//! Requirements as data, and how they are built.

use std::{fmt, sync::Arc, time::Duration};

use crate::{rejection::challenge::is_text, token::TokenInfo};

/// A requirement that a token has to meet. It is evaluated from the token's facts on every request,
/// also when these come from the cache.
///
/// It applies to all requests of a layer by [`AuthLayerBuilder::require`](crate::AuthLayerBuilder::require),
/// or is itself a layer for a route inside the [`AuthLayer`](crate::AuthLayer), whose renderer and
/// realm it uses.
///
/// A fact that a token lacks meets no requirement. As a layer for a route, it refuses requests
/// without a token with 401, also inside an [`optional`](crate::AuthLayerBuilder::optional) layer. A
/// requirement of the `optional` layer itself is for requests with a token.
///
/// ```
/// use std::time::Duration;
/// use tower_authlete::{Require, RequireScopes};
///
/// // Staff who logged in within the last hour, or a service.
/// let staff = RequireScopes::all(["admin"]).and(Require::max_auth_age(Duration::from_secs(3600)));
/// let requirement = staff.or(RequireScopes::all(["internal"]));
/// ```
///
/// # One path, several methods
/// axum's `MethodRouter::route_layer` goes around all methods that were added *before* it. In
/// `get(list).route_layer(a).post(create).route_layer(b)`, a GET has to meet `a` and `b`. Put the
/// requirement on the handler instead:
///
/// ```
/// use axum::{Router, handler::Handler, routing::get};
/// use tower_authlete::RequireScopes;
///
/// # async fn list() {}
/// # async fn create() {}
/// let notes = get(list.layer(RequireScopes::all(["notes.read"])))
///     .post(create.layer(RequireScopes::all(["notes.write"])));
/// let app: Router = Router::new().route("/notes", notes);
/// ```
///
/// or merge method routers that have their requirements already:
///
/// ```
/// use axum::{Router, routing::{get, post}};
/// use tower_authlete::RequireScopes;
///
/// # async fn list() {}
/// # async fn create() {}
/// let notes = get(list)
///     .route_layer(RequireScopes::all(["notes.read"]))
///     .merge(post(create).route_layer(RequireScopes::all(["notes.write"])));
/// let app: Router = Router::new().route("/notes", notes);
/// ```
#[derive(Clone, Debug)]
pub struct Require(Arc<Rule>);

#[derive(Debug)]
pub(super) enum Rule {
    Scopes(Vec<String>),
    Subject,
    Audience(Vec<String>),
    Acr(Vec<String>),
    AuthAge(Duration),
    Test(Test),
    All(Vec<Require>),
    Any(Vec<Require>),
}

pub(super) struct Test {
    pub(super) description: &'static str,
    pub(super) passes: Box<dyn Fn(&TokenInfo) -> bool + Send + Sync>,
}

impl fmt::Debug for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// Requirements of scopes.
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
    /// The token has all these scopes. If none are given, every valid token meets it.
    ///
    /// # Panics
    /// If a scope is not a `scope-token` of RFC 6749 §3.3: no token can have it.
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

    #[inline]
    pub(super) fn rule(&self) -> &Rule {
        &self.0
    }

    /// There is a valid token, of whatever rights. As a layer for a route inside an
    /// [`optional`](crate::AuthLayer::optional) layer, it refuses requests without one with 401.
    /// Everywhere else it is met already.
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use tower_authlete::{AuthLayer, Require};
    ///
    /// # async fn front_page() {}
    /// # async fn account() {}
    /// # fn app(authlete: tower_authlete::Authlete) -> Router {
    /// let app = Router::new()
    ///     .route("/", get(front_page))
    ///     .route("/account", get(account).route_layer(Require::authenticated()))
    ///     .layer(AuthLayer::new(authlete).optional());
    /// # app
    /// # }
    /// ```
    #[must_use]
    pub fn authenticated() -> Self {
        Self::new(Rule::All(Vec::new()))
    }

    /// The token was issued for a user: it has a subject. Refused with 403.
    #[must_use]
    pub fn subject() -> Self {
        Self::new(Rule::Subject)
    }

    /// The token is for one of these resources (RFC 8707), compared byte for byte with
    /// [`TokenInfo::audience`]. A token that names no resources is for none. Refused with 401
    /// `invalid_token` (RFC 9068 §4).
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
    /// `insufficient_user_authentication` and `acr_values` (RFC 9470 §3), in this order of preference.
    ///
    /// # Panics
    /// If none are given, or if one holds anything but visible ASCII without `"` and `\`.
    #[must_use]
    #[track_caller]
    pub fn acr(values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let values = names("acr value", values);
        assert!(!values.is_empty(), "Require::acr needs at least one acr value; none was given");
        Self::new(Rule::Acr(values))
    }

    /// The user was authenticated no longer ago than this, in whole seconds: fractions are cut off.
    /// Refused with 401 `insufficient_user_authentication` and `max_age` (RFC 9470 §3).
    #[must_use]
    pub fn max_auth_age(age: Duration) -> Self {
        Self::new(Rule::AuthAge(Duration::from_secs(age.as_secs())))
    }

    /// The token passes a test of yours. Refused with 403 and the description, which goes to the
    /// client. An `error_description` holds visible ASCII without `"` and `\` (RFC 6750 §3): in the
    /// challenge, `"` becomes `'`, and any other illegal character `?`.
    /// [`Rejection::description`](crate::Rejection::description) is unchanged.
    ///
    /// The test is called with all facts of an introspection: if a token is known only by the answer that
    /// issued it, Authlete is asked first. [`Check::Update`](crate::Check::Update) provides fewer facts: a
    /// test must not pass there because a fact is missing.
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
        Self::new(Rule::Test(Test { description, passes: Box::new(test) }))
    }

    /// Both requirements.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(Rule::All(vec![self, other]))
    }

    /// At least one of both. If the token meets neither, the challenge describes the first.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::new(Rule::Any(vec![self, other]))
    }
}

/// Names for a list separated by spaces: `1*NQCHAR` (RFC 6749 appendix A).
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
    use super::*;

    #[test]
    #[should_panic(expected = "is no scope")]
    fn two_scopes_in_one_string_are_refused_when_the_app_is_built() {
        let _ = RequireScopes::all(["read write"]);
    }
}
