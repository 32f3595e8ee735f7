//! Scopes and properties, and one place for those that many tokens share.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use moka::sync::Cache;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::api::{IntrospectionResponse, Property};

/// What a pool of sets of scopes, of properties or of further facts takes by itself at most, in bytes.
const POOL_BYTES: u64 = 8 << 20;

/// What a pool takes for an entry, roughly, in bytes.
const ENTRY_BYTES: usize = 256;

/// The facts of a token, of which these are a part.
pub(super) trait Holds<T>: Send + Sync {
    fn held(&self) -> &[T];
}

/// Where scopes or properties are.
#[derive(Clone)]
pub(super) enum Held<T> {
    /// In a place of their own.
    Own(Arc<[T]>),
    /// In what is known of a token.
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
    /// Whether the token has this scope. Scopes are compared to the letter (RFC 6749 §3.3).
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        self.iter().any(|held| held == scope)
    }

    /// The scopes, in Authlete's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.slice().iter().map(AsRef::as_ref)
    }

    /// How many there are.
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
/// # Ok::<(), tower_authlete::PropertiesError>(())
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

    /// Whether a property is hidden from client applications: do not put such a value into a
    /// response.
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

    /// All properties, hidden ones included, as a type of yours. Keys become fields; numbers,
    /// booleans, options and enums are read from their text.
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

/// One place for what many tokens have in common.
///
/// It holds weak references only, so that a value lives as long as the tokens that have it. What is rare
/// falls out of it, and is then no longer shared with further tokens.
pub(crate) struct Interner {
    rest: Pool<IntrospectionResponse>,
    scopes: Pool<[Box<str>]>,
    properties: Pool<[Property]>,
}

impl Interner {
    pub(crate) fn new() -> Self {
        Self { rest: Pool::new(), scopes: Pool::new(), properties: Pool::new() }
    }

    pub(super) fn rest(&self, rest: &mut Arc<IntrospectionResponse>) {
        self.rest.share(rest);
    }

    pub(super) fn scopes(&self, scopes: &mut Scopes) {
        if let Held::Own(own) = &mut scopes.0 {
            self.scopes.share(own);
        }
    }

    pub(super) fn properties(&self, properties: &mut Properties) {
        if let Held::Own(own) = &mut properties.0 {
            self.properties.share(own);
        }
    }

    /// Shares nothing of before with tokens to come.
    pub(crate) fn clear(&self) {
        self.rest.clear();
        self.scopes.clear();
        self.properties.clear();
    }
}

/// Values of one kind, by the digests of their JSON.
struct Pool<T: ?Sized>(Cache<[u8; 32], Weak<T>>);

impl<T: Serialize + ?Sized + Send + Sync + 'static> Pool<T> {
    fn new() -> Self {
        Self(Cache::builder().max_capacity(POOL_BYTES).weigher(|_, value| weight(value)).build())
    }

    /// Replaces a value by an equal one that others have, too.
    fn share(&self, value: &mut Arc<T>) {
        // Equal JSON is equal facts: it is what they were read from.
        let Ok(json) = serde_json::to_vec(&**value) else { return };
        let digest: [u8; 32] = Sha256::digest(json).into();
        match self.0.get(&digest).and_then(|shared| shared.upgrade()) {
            Some(shared) => *value = shared,
            None => self.0.insert(digest, Arc::downgrade(value)),
        }
    }

    fn clear(&self) {
        self.0.invalidate_all();
        // Frees the memory now rather than with later calls.
        self.0.run_pending_tasks();
    }
}

/// What a weak reference keeps of a value that is gone, and what the pool takes for it, in bytes.
fn weight<T: ?Sized>(value: &Weak<T>) -> u32 {
    let shell = value.upgrade().map_or(0, |value| size_of_val(&*value));
    u32::try_from(ENTRY_BYTES.saturating_add(shell)).unwrap_or(u32::MAX)
}

/// The properties of a token are not of the shape that was asked for. It does not tell more, since
/// a cause would quote values that can be hidden.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token's properties are not of the shape that was asked for")]
pub struct PropertiesError(());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenInfo;

    /// The facts of a token with a property of this length.
    fn facts(number: usize, length: usize) -> TokenInfo {
        TokenInfo::from(&IntrospectionResponse {
            client_id: Some(1 + number as i64),
            scopes: vec![format!("scope-{number}")],
            properties: vec![Property::new(format!("key-{number}"), "v".repeat(length))],
            ..Default::default()
        })
    }

    fn own<T>(held: &Held<T>) -> Arc<[T]> {
        match held {
            Held::Own(own) => own.clone(),
            Held::Of(_) => panic!("of a token"),
        }
    }

    fn held(interner: &Interner) -> u64 {
        let Interner { rest, scopes, properties } = interner;
        rest.0.run_pending_tasks();
        scopes.0.run_pending_tasks();
        properties.0.run_pending_tasks();
        rest.0.weighted_size() + scopes.0.weighted_size() + properties.0.weighted_size()
    }

    #[test]
    fn equal_facts_are_in_one_place_as_long_as_a_token_has_them() {
        let interner = Interner::new();
        let one = facts(1, 10).interned(&interner);
        let other = facts(1, 10).interned(&interner);
        assert!(Arc::ptr_eq(&one.0.rest, &other.0.rest));
        assert!(Arc::ptr_eq(&own(&one.0.scopes.0), &own(&other.0.scopes.0)));
        assert!(Arc::ptr_eq(&own(&one.0.properties.0), &own(&other.0.properties.0)));
        let rest = Arc::downgrade(&one.0.rest);
        let scopes = Arc::downgrade(&own(&one.0.scopes.0));
        let properties = Arc::downgrade(&own(&one.0.properties.0));
        drop(one);
        assert!(properties.upgrade().is_some());
        drop(other);
        let gone = (rest.upgrade(), scopes.upgrade().is_none(), properties.upgrade());
        assert!(matches!(gone, (None, true, None)));
        // What comes after is in one place again.
        let (one, other) = (facts(1, 10).interned(&interner), facts(1, 10).interned(&interner));
        assert!(Arc::ptr_eq(&one.0.rest, &other.0.rest));
    }

    #[test]
    fn what_many_tokens_brought_takes_bounded_room_and_none_when_all_is_forgotten() {
        let interner = Interner::new();
        let tokens = (0..20_000).map(|number| facts(number, 10).interned(&interner));
        let tokens: Vec<_> = tokens.collect();
        let held_bytes = held(&interner);
        assert!((1..=3 * POOL_BYTES).contains(&held_bytes), "{held_bytes} bytes");
        interner.clear();
        assert_eq!(held(&interner), 0);
        assert_eq!(Arc::weak_count(&tokens[19_999].0.rest), 0);
    }
}
