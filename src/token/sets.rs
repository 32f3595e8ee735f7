//! Scopes and properties.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

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
    #[inline]
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
    /// If a field is missing or its value is not of its type. The error names the field, never the value.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, PropertiesError> {
        let pairs: Vec<_> =
            self.iter().map(|property| (property.key.as_str(), property.value.as_str())).collect();
        let unnamed = PropertiesError { field: None };
        let form = serde_html_form::to_string(pairs).map_err(|_| unnamed)?;
        let deserializer = serde_html_form::Deserializer::from_bytes(form.as_bytes());
        serde_path_to_error::deserialize(deserializer)
            .map_err(|error| PropertiesError { field: self.field_of(&error) })
    }

    /// The field that an error is about: a key of these properties, or one that is missing.
    fn field_of(
        &self,
        error: &serde_path_to_error::Error<serde_html_form::de::Error>,
    ) -> Option<String> {
        if let Some(Segment::Map { key }) = error.path().iter().next() {
            return self.find(key).map(|property| property.key.clone());
        }
        // serde's own text for a field of the type, so that it holds no value.
        let text = error.inner().to_string();
        let name = text.strip_prefix("missing field `")?.strip_suffix('`')?;
        self.iter().all(|property| property.value != name).then(|| name.to_owned())
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertiesError {
    field: Option<String>,
}

impl PropertiesError {
    /// The property that is missing or of another type; `None` if that is unknown.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl fmt::Display for PropertiesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field() {
            Some(field) => write!(
                f,
                "the token's property {field:?} is missing or not of the type that was asked for"
            ),
            None => f.write_str("the token's properties are not of the shape that was asked for"),
        }
    }
}

impl std::error::Error for PropertiesError {}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Plan {
        Gold,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Account {
        plan: Plan,
        seats: Option<u8>,
    }

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(key, value)| Property::hidden(*key, *value)).collect()
    }

    #[test]
    fn what_is_wrong_is_named_and_its_value_is_not() {
        let good = properties(&[("plan", "gold"), ("seats", "5"), ("other", "x")]);
        assert_eq!(good.deserialize(), Ok(Account { plan: Plan::Gold, seats: Some(5) }));
        for (pairs, field) in [
            (&[("plan", "sesame"), ("seats", "5")][..], "plan"),
            (&[("plan", "gold"), ("seats", "sesame")], "seats"),
            (&[("plan", "gold"), ("seats", "256")], "seats"),
            (&[("seats", "5"), ("other", "sesame")], "plan"),
            (&[], "plan"),
        ] {
            let error = properties(pairs).deserialize::<Account>().unwrap_err();
            assert_eq!(error.field(), Some(field), "{pairs:?}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("sesame") && !shown.contains("256"), "{shown}");
        }
    }

    #[test]
    fn errors_of_types_that_quote_values_are_not_shown() {
        #[derive(Debug, Deserialize)]
        #[serde(try_from = "std::collections::HashMap<String, String>")]
        struct Loud;

        impl TryFrom<std::collections::HashMap<String, String>> for Loud {
            type Error = String;

            fn try_from(map: std::collections::HashMap<String, String>) -> Result<Self, String> {
                Err(format!("missing field `{}`", map["plan"]))
            }
        }
        let error = properties(&[("plan", "sesame")]).deserialize::<Loud>().unwrap_err();
        assert_eq!(error.field(), None);
        assert!(!format!("{error} {error:?}").contains("sesame"));
    }
}
