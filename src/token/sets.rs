//! Scopes and properties.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;

use crate::api::Property;

/// The facts of a token, as the owner of its scopes and properties.
pub(super) trait Holds<T>: Send + Sync {
    fn held(&self) -> &[T];
}

/// A list of scopes or properties.
#[derive(Clone)]
pub(super) enum Held<T> {
    /// The list itself.
    Own(Arc<[T]>),
    /// The list of a token: an extension of a request needs no copy of it.
    Of(Arc<dyn Holds<T>>),
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self::Own(Arc::default())
    }
}

/// The scopes of a token. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Scopes(pub(super) Held<Box<str>>);

impl PartialEq for Scopes {
    fn eq(&self, other: &Self) -> bool {
        self.slice() == other.slice()
    }
}

impl Eq for Scopes {}

impl Scopes {
    /// Whether the token has this scope. Comparison is case-sensitive (RFC 6749 §3.3).
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|held| held == scope)
    }

    /// The scopes, in the order of Authlete's answer.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.slice().iter().map(AsRef::as_ref)
    }

    /// The number of scopes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slice().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slice().is_empty()
    }

    pub(super) fn slice(&self) -> &[Box<str>] {
        match &self.0 {
            Held::Own(scopes) => scopes,
            Held::Of(facts) => facts.held(),
        }
    }
}

impl<S: AsRef<str>> FromIterator<S> for Scopes {
    fn from_iter<I: IntoIterator<Item = S>>(scopes: I) -> Self {
        Self(Held::Own(scopes.into_iter().map(|scope| scope.as_ref().into()).collect()))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for Scopes {
    /// The form of the `scope` parameter: names separated by spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            write!(f, "{}{scope}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// The extra properties of a token. Cloning is cheap.
///
/// ```
/// use serde::Deserialize;
/// use tower_authlete::{Properties, api::Property};
///
/// #[derive(Deserialize)]
/// struct Account {
///     plan: String,
///     seats: u32,
/// }
///
/// let properties: Properties =
///     [Property::new("plan", "gold"), Property::hidden("seats", "5")].into_iter().collect();
/// assert_eq!(properties.get("plan"), Some("gold"));
/// let account: Account = properties.deserialize()?;
/// assert_eq!((account.plan.as_str(), account.seats), ("gold", 5));
/// # Ok::<(), tower_authlete::token::PropertiesError>(())
/// ```
#[derive(Clone, Default)]
pub struct Properties(pub(super) Held<Property>);

impl PartialEq for Properties {
    fn eq(&self, other: &Self) -> bool {
        self.slice() == other.slice()
    }
}

impl Eq for Properties {}

impl Properties {
    /// The value of a property, hidden or not.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.find(key).map(|property| property.value.as_str())
    }

    /// Whether a property is hidden from client applications. The value of such a property must not appear
    /// in a response.
    #[must_use]
    pub fn is_hidden(&self, key: &str) -> bool {
        self.find(key).is_some_and(|property| property.hidden)
    }

    /// The properties that client applications may see, as keys and values.
    pub fn visible(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter()
            .filter(|property| !property.hidden)
            .map(|property| (property.key.as_str(), property.value.as_str()))
    }

    /// All properties.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Property> {
        self.slice().iter()
    }

    pub(super) fn slice(&self) -> &[Property] {
        match &self.0 {
            Held::Own(properties) => properties,
            Held::Of(facts) => facts.held(),
        }
    }

    /// Deserializes all properties, hidden ones included. Keys become fields; numbers, booleans, options and
    /// enums are parsed from their text.
    ///
    /// # Errors
    /// If a field is missing or its value is not of its type.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, PropertiesError> {
        let pairs: Vec<_> =
            self.iter().map(|property| (property.key.as_str(), property.value.as_str())).collect();
        let form = serde_html_form::to_string(pairs).map_err(|_| PropertiesError(()))?;
        serde_html_form::from_str(&form).map_err(|_| PropertiesError(()))
    }

    fn find(&self, key: &str) -> Option<&Property> {
        self.iter().find(|property| property.key == key)
    }
}

impl FromIterator<Property> for Properties {
    fn from_iter<I: IntoIterator<Item = Property>>(properties: I) -> Self {
        Self(Held::Own(properties.into_iter().collect()))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |property: &Property| property.hidden.then_some("[hidden]");
        let shown: BTreeMap<_, _> = self
            .iter()
            .map(|property| (&property.key, hidden(property).unwrap_or(&property.value)))
            .collect();
        shown.fmt(f)
    }
}

/// The properties of a token do not deserialize to the type that was asked for. There is no source: it could
/// quote hidden values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token's properties are not of the shape that was asked for")]
pub struct PropertiesError(());
