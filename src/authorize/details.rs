//! Requirements of rich authorization details (RFC 9396).

use std::{fmt, sync::Arc};

use serde::de::DeserializeOwned;

use super::require::Require;
use crate::api::AuthzDetailsElement;

type Test = Arc<dyn Fn(&AuthzDetailsElement) -> bool + Send + Sync>;

/// One element of the token's
/// [`authorization_details`](crate::TokenInfo::authorization_details) meets all conditions that are set
/// here. Refused with 403.
///
/// It is a layer for a route, and converts into a [`Require`].
///
/// ```
/// use serde::Deserialize;
/// use tower_authlete::{Require, require::RequireDetails};
///
/// #[derive(Deserialize)]
/// struct Payment {
///     currency: String,
/// }
///
/// let payments = RequireDetails::of_type("payment_initiation")
///     .action("initiate")
///     .location("https://example.com/payments")
///     .matching(|payment: Payment| payment.currency == "EUR");
/// let requirement = Require::scopes(["payments"]).and(payments.into());
/// ```
#[derive(Clone)]
pub struct RequireDetails {
    /// The members that an element has, at least.
    wanted: AuthzDetailsElement,
    tests: Vec<Test>,
}

impl RequireDetails {
    /// An element of this `type`.
    #[must_use]
    pub fn of_type(kind: impl Into<String>) -> Self {
        Self { wanted: AuthzDetailsElement::new().r#type(kind), tests: Vec::new() }
    }

    /// It allows this action. Each further call adds one more that it must allow.
    #[must_use]
    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.wanted.actions.push(action.into());
        self
    }

    /// It names this location. Each further call adds one more that it must name.
    #[must_use]
    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.wanted.locations.push(location.into());
        self
    }

    /// It names this type of data. Each further call adds one more that it must name.
    #[must_use]
    pub fn data_type(mut self, data_type: impl Into<String>) -> Self {
        self.wanted.data_types.push(data_type.into());
        self
    }

    /// It grants this privilege. Each further call adds one more that it must grant.
    #[must_use]
    pub fn privilege(mut self, privilege: impl Into<String>) -> Self {
        self.wanted.privileges.push(privilege.into());
        self
    }

    /// It names this resource as its `identifier`.
    #[must_use]
    pub fn identifier(mut self, identifier: impl Into<String>) -> Self {
        self.wanted.identifier = Some(identifier.into());
        self
    }

    /// Its members beyond the standard ones deserialize to a type of yours and pass a test. Members of
    /// another shape do not pass.
    #[must_use]
    pub fn matching<T: DeserializeOwned>(
        mut self,
        test: impl Fn(T) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.tests.push(Arc::new(move |element| element.other_fields_as().is_ok_and(&test)));
        self
    }

    fn is_met(&self, element: &AuthzDetailsElement) -> bool {
        let wanted = &self.wanted;
        let all = |wanted: &[String], held: &[String]| wanted.iter().all(|it| held.contains(it));
        wanted.r#type == element.r#type
            && all(&wanted.actions, &element.actions)
            && all(&wanted.locations, &element.locations)
            && all(&wanted.data_types, &element.data_types)
            && all(&wanted.privileges, &element.privileges)
            && (wanted.identifier.is_none() || wanted.identifier == element.identifier)
            && self.tests.iter().all(|passes| passes(element))
    }
}

impl From<RequireDetails> for Require {
    fn from(details: RequireDetails) -> Self {
        let description = "the access token lacks authorization details that are required";
        Self::when(description, move |token| {
            token.authorization_details().iter().any(|element| details.is_met(element))
        })
    }
}

impl fmt::Debug for RequireDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequireDetails").field(&self.wanted).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::{Value, json};

    use super::*;
    use crate::{api::IntrospectionResponse, clock::Clock, token::TokenInfo};

    fn allows(details: RequireDetails, elements: Value) -> bool {
        let response = json!({ "action": "OK", "authorizationDetails": { "elements": elements } });
        let response: IntrospectionResponse = serde_json::from_value(response).unwrap();
        Require::from(details)
            .check(&TokenInfo::from(&response), &Clock::frozen(UNIX_EPOCH))
            .is_ok()
    }

    fn payment() -> RequireDetails {
        RequireDetails::of_type("payment").action("initiate").location("https://a")
    }

    #[test]
    fn one_element_has_to_meet_all() {
        let good =
            json!({ "type": "payment", "actions": ["x", "initiate"], "locations": ["https://a"] });
        let half = json!({ "type": "payment", "actions": ["initiate"] });
        let rest = json!({ "type": "payment", "locations": ["https://a"] });
        let other =
            json!({ "type": "account", "actions": ["initiate"], "locations": ["https://a"] });
        assert!(allows(payment(), json!([half, good])));
        assert!(!allows(payment(), json!([half, rest, other])));
        assert!(!allows(payment(), json!([])) && !allows(payment(), Value::Null));
    }

    #[test]
    fn all_standard_members_can_be_required() {
        let element = json!({
            "type": "t", "dataTypes": ["d"], "privileges": ["p"], "identifier": "i",
        });
        let with = || RequireDetails::of_type("t").data_type("d").privilege("p").identifier("i");
        assert!(allows(with(), json!([element])));
        for more in [with().data_type("x"), with().privilege("x"), with().identifier("x")] {
            assert!(!allows(more, json!([element])));
        }
    }

    #[test]
    fn further_members_are_read_as_a_type() {
        #[derive(serde::Deserialize)]
        struct Amount {
            euros: u32,
        }
        let small = || RequireDetails::of_type("p").matching(|amount: Amount| amount.euros < 100);
        let element = |other: &str| json!([{ "type": "p", "otherFields": other }]);
        assert!(allows(small(), element(r#"{"euros":99}"#)));
        for wrong in [r#"{"euros":100}"#, r#"{"euros":"9"}"#, "{}", "", "[9]x"] {
            assert!(!allows(small(), element(wrong)), "{wrong}");
        }
    }
}
