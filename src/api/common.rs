//! Types that several documents share.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A key and a value. `Debug` does not show the value, since it can be that of a header.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Pair {
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<K: Into<String>, V: Into<String>> From<(K, V)> for Pair {
    fn from((key, value): (K, V)) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()) }
    }
}

/// An extra property of an access token: a key and a value that the authorization server attached to it.
///
/// `Debug` shows the value only if the property is not hidden.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Property {
    /// The key.
    #[serde(deserialize_with = "super::document::nullable")]
    pub key: String,
    /// The value.
    #[serde(deserialize_with = "super::document::nullable")]
    pub value: String,
    /// Whether the property is hidden from client applications.
    #[serde(
        deserialize_with = "super::document::nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub hidden: bool,
}

impl Property {
    /// A property that client applications may see.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), hidden: false }
    }

    /// A property that is hidden from client applications.
    #[must_use]
    pub fn hidden(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { hidden: true, ..Self::new(key, value) }
    }
}

impl<K: Into<String>, V: Into<String>> From<(K, V)> for Property {
    fn from((key, value): (K, V)) -> Self {
        Self::new(key, value)
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.hidden { "[redacted]" } else { &self.value };
        f.debug_struct("Property")
            .field("key", &self.key)
            .field("value", &value)
            .field("hidden", &self.hidden)
            .finish()
    }
}

document! {
    /// Rich authorization details (RFC 9396) of a token.
    request AuthzDetails {
        /// One element for each thing that was authorized.
        elements: list AuthzDetailsElement,
    }
}

document! {
    /// One element of `authorization_details` (RFC 9396 §2).
    request AuthzDetailsElement {
        /// `type`: what kind of authorization this is, which also tells how to read the rest.
        r#type: text,
        /// Resources or resource servers, usually URIs.
        locations: texts,
        /// What may be done.
        actions: texts,
        /// Which data are asked for.
        data_types: texts,
        /// A particular resource.
        identifier: text,
        /// Levels of privilege.
        privileges: texts,
        /// All members beyond those above, as the text of a JSON object.
        other_fields: text,
    }
}

impl AuthzDetailsElement {
    /// Deserializes [`other_fields`](Self::other_fields). If it is absent, an empty object is deserialized.
    ///
    /// # Errors
    /// If it is not JSON, or does not fit the type.
    pub fn other_fields_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.other_fields.as_deref().unwrap_or("{}"))
    }
}

document! {
    /// A scope with its attributes.
    request Scope {
        /// The name, as in `scope` parameters.
        name: text,
        /// Whether requests that name no scopes ask for this one.
        default_entry: flag,
        /// A description for people.
        description: text,
        /// Descriptions in other languages.
        descriptions: list TaggedValue,
        /// Attributes, such as `access_token.duration` (s).
        attributes: list Pair,
    }
}

document! {
    /// A text in a language.
    request TaggedValue {
        /// The language tag.
        tag: text,
        /// The text.
        value: text,
    }
}

document! {
    /// A grant (Grant Management for OAuth 2.0).
    request Grant {
        /// Scopes and the resources they are for.
        scopes: list GrantScope,
        /// Names of claims.
        claims: texts,
        /// Authorization details.
        authorization_details: value AuthzDetails,
    }
}

document! {
    /// Scopes of a grant.
    request GrantScope {
        /// Scope names, separated by spaces.
        scope: text,
        /// The resources they are for.
        resource: texts,
    }
}

/// Defines an enum whose unknown values are kept as text, since nothing is decided by them.
macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// A name that this version does not know.
            #[serde(untagged)]
            Other(String),
        }
    };
}

names! {
    /// The flow by which an access token was issued.
    GrantType {
        /// RFC 6749 §4.1.
        AuthorizationCode,
        /// RFC 6749 §4.2.
        Implicit,
        /// RFC 6749 §4.3.
        Password,
        /// RFC 6749 §4.4.
        ClientCredentials,
        /// RFC 6749 §6.
        RefreshToken,
        /// OpenID Connect client-initiated backchannel authentication.
        Ciba,
        /// RFC 8628.
        DeviceCode,
        /// RFC 8693.
        TokenExchange,
        /// RFC 7523.
        JwtBearer,
        /// OpenID for Verifiable Credential Issuance.
        PreAuthorizedCode,
    }
}

names! {
    /// A token type identifier of token exchange (RFC 8693 §3).
    TokenType {
        /// `urn:ietf:params:oauth:token-type:jwt`
        Jwt,
        /// `urn:ietf:params:oauth:token-type:access_token`
        AccessToken,
        /// `urn:ietf:params:oauth:token-type:refresh_token`
        RefreshToken,
        /// `urn:ietf:params:oauth:token-type:id_token`
        IdToken,
        /// `urn:ietf:params:oauth:token-type:saml1`
        Saml1,
        /// `urn:ietf:params:oauth:token-type:saml2`
        Saml2,
        /// `urn:openid:params:token-type:device-secret`
        DeviceSecret,
        /// A device code.
        DeviceCode,
        /// A token exchange.
        TokenExchange,
        /// A JWT bearer grant.
        JwtBearer,
    }
}

names! {
    /// Whether a client can keep a secret (RFC 6749 §2.1).
    ClientType {
        /// It cannot.
        Public,
        /// It can.
        Confidential,
    }
}
