//! Every documented field round-trips from JSON to a model and back.
//!
//! The values are generated from the models: a deserializer gives each field of a model a value of its own,
//! so that no field is left out.

use std::{cell::Cell, collections::BTreeSet, fmt::Debug};

use serde::{
    Deserializer, Serialize,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess,
        Visitor,
        value::{BorrowedStrDeserializer, Error, StrDeserializer},
    },
};
use serde_json::{Map, Value, json};
use tower_authlete::api::*;

/// Gives every field a value that no other field has: texts `v1`, `v2`, …; numbers 1, 2, …; `true`;
/// lists of two; enums their first variant.
#[derive(Clone, Copy)]
struct Filled<'c>(&'c Cell<i64>);

impl Filled<'_> {
    fn next(self) -> i64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

macro_rules! unused {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            unimplemented!("no document has a field of this kind: {}", stringify!($method))
        }
    )*};
}

impl<'de> Deserializer<'de> for Filled<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(format!("v{}", self.next()))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(self.next())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(true)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Two(self, 0))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields(self, fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(First(variants[0]))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: V,
    ) -> Result<V::Value, Error> {
        unimplemented!("no document has a field of this kind")
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        unimplemented!("no document has a field of this kind")
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        _: V,
    ) -> Result<V::Value, Error> {
        unimplemented!("no document has a field of this kind")
    }

    unused! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_map
        deserialize_identifier deserialize_ignored_any
    }
}

struct Two<'c>(Filled<'c>, u8);

impl<'de> SeqAccess<'de> for Two<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.1 += 1;
        if self.1 > 2 { Ok(None) } else { seed.deserialize(self.0).map(Some) }
    }
}

struct Fields<'c>(Filled<'c>, &'static [&'static str]);

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.1.first() else {
            return Ok(None);
        };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        self.1 = &self.1[1..];
        seed.deserialize(self.0)
    }
}

struct First(&'static str);

impl<'de> EnumAccess<'de> for First {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        let value = seed.deserialize(StrDeserializer::new(self.0))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for First {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Error> {
        unimplemented!("no document has a field of this kind")
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        unimplemented!("no document has a field of this kind")
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        unimplemented!("no document has a field of this kind")
    }
}

fn filled<T: DeserializeOwned>() -> T {
    T::deserialize(Filled(&Cell::new(0))).unwrap()
}

fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value).unwrap() {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

/// Members of documents that hold a token, a proof, a ticket or a credential.
const SECRETS: &str = "accessToken refreshToken ticket password clientSecret dpop jwtAccessToken \
    idToken assertion subjectToken actorToken deviceSecret parameters token oauthClientAttestation \
    oauthClientAttestationPop accessTokenIdentifier refreshTokenIdentifier";

fn check<T>(name: &str, documented: &str)
where
    T: DeserializeOwned + Serialize + Debug + Default,
{
    let document: T = filled();
    let json = object(&document);

    let fields: BTreeSet<_> = json.keys().map(String::as_str).collect();
    let documented: BTreeSet<_> = documented.split_whitespace().collect();
    assert_eq!(fields, documented, "{name} has the fields that are documented");

    let again: T = serde_json::from_value(json.clone().into()).unwrap();
    assert_eq!(object(&again), json, "{name} survives the way there and back");

    let debug = format!("{document:?}");
    for (key, value) in &json {
        let Some(value) = value.as_str() else {
            continue;
        };
        if SECRETS.split_whitespace().any(|secret| secret == key) {
            assert!(!debug.contains(&format!("\"{value}\"")), "{name}.{key} is seen in {debug}");
        }
    }
    // The marker of what is decided is all that an empty document must have.
    let empty = object(&T::default());
    assert!(empty.keys().all(|key| key == "action"), "{name} leaves out what is unset: {empty:?}");

    let nulls: Map<_, _> = json.keys().map(|key| (key.clone(), Value::Null)).collect();
    let nothing: T = serde_json::from_value(nulls.into()).unwrap();
    assert_eq!(object(&nothing), empty, "{name} reads null as nothing");

    let mut more = json.clone();
    more.insert("aFieldOfTomorrow".into(), json!({ "a": [1] }));
    let known: T = serde_json::from_value(more.into()).unwrap();
    assert_eq!(object(&known), json, "{name} ignores what it does not know");
}

macro_rules! documents {
    ($(($name:ident, $fields:literal),)*) => {
        #[test]
        fn every_documented_field_survives_a_round_trip() {
            $(check::<$name>(stringify!($name), $fields);)*
        }
    };
}

documents! {
    (IntrospectionRequest, "acrValues clientCertificate dpop dpopNonceRequired headers htm htu maxAge message \
        requestBodyContained requiredComponents resources scopes subject targetUri token uri"),
    (IntrospectionResponse, "accessTokenResources acr action authTime authorizationDetails certificateThumbprint \
        clientAttributes clientEntityId clientEntityIdUsed clientId clientIdAlias \
        clientIdAliasUsed cnonce cnonceExpiresAt consentedClaims dpopNonce existent expiresAt \
        forCredentialIssuance forExternalAttachment grant grantId grantType issuableCredentials \
        metadataDocumentLocation metadataDocumentUsed properties refreshable resources \
        responseContent responseSigningRequired resultCode resultMessage scopeDetails scopes \
        serviceAttributes subject sufficient usable"),
    (TokenRequest, "accessToken accessTokenDuration cimdOptions clientCertificate clientCertificatePath \
        clientId clientSecret dpop dpopNonceRequired htm htu jwtAtClaims oauthClientAttestation \
        oauthClientAttestationPop parameters properties refreshTokenDuration"),
    (TokenResponse, "accessToken accessTokenDuration accessTokenExpiresAt accessTokenResources action \
        actorToken actorTokenInfo actorTokenType additionalClaims assertion audiences \
        authorizationDetails clientAttributes clientAuthMethod clientEntityId clientEntityIdUsed \
        clientId clientIdAlias clientIdAliasUsed cnonce cnonceDuration cnonceExpiresAt \
        deviceSecret deviceSecretHash dpopNonce grantId grantType idToken jwtAccessToken \
        metadataDocumentLocation metadataDocumentUsed password previousRefreshTokenUsed properties \
        refreshToken refreshTokenDuration refreshTokenExpiresAt refreshTokenScopes \
        requestedIdTokenClaims requestedTokenType resources responseContent resultCode \
        resultMessage scopes serviceAttributes sessionId subject subjectToken subjectTokenInfo \
        subjectTokenType ticket username"),
    (TokenFailRequest, "reason ticket"),
    (TokenFailResponse, "action responseContent resultCode resultMessage"),
    (TokenIssueRequest, "accessToken accessTokenDuration jwtAtClaims properties refreshTokenDuration subject ticket"),
    (TokenIssueResponse, "accessToken accessTokenDuration accessTokenExpiresAt accessTokenResources action \
        authorizationDetails clientAttributes clientEntityId clientEntityIdUsed clientId \
        clientIdAlias clientIdAliasUsed jwtAccessToken metadataDocumentLocation \
        metadataDocumentUsed properties refreshToken refreshTokenDuration refreshTokenExpiresAt \
        refreshTokenScopes responseContent resultCode resultMessage scopes serviceAttributes \
        subject"),
    (TokenCreateRequest, "accessToken accessTokenDuration accessTokenPersistent acr authTime authorizationDetails \
        certificateThumbprint clientEntityIdUsed clientId clientIdAliasUsed clientIdentifier \
        dpopKeyThumbprint forExternalAttachment grantType jwtAtClaims metadataDocumentUsed \
        properties refreshToken refreshTokenDuration resources scopes sessionId subject"),
    (TokenCreateResponse, "accessToken action authorizationDetails clientId clientIdentifier expiresAt expiresIn \
        forExternalAttachment grantType jwtAccessToken properties refreshToken refreshTokenScopes \
        resultCode resultMessage scopes sessionId subject tokenId tokenType"),
    (TokenUpdateRequest, "accessToken accessTokenExpiresAt accessTokenExpiresAtUpdatedOnScopeUpdate accessTokenHash \
        accessTokenPersistent accessTokenValueUpdated authorizationDetails certificateThumbprint \
        dpopKeyThumbprint forExternalAttachment properties refreshToken refreshTokenExpiresAt \
        refreshTokenExpiresAtUpdatedOnScopeUpdate refreshTokenHash scopes tokenId"),
    (TokenUpdateResponse, "accessToken accessTokenExpiresAt action authorizationDetails forExternalAttachment \
        properties refreshTokenExpiresAt resultCode resultMessage scopes tokenId tokenType"),
    (TokenRevokeRequest, "accessTokenIdentifier clientIdentifier refreshTokenIdentifier subject"),
    (TokenRevokeResponse, "count resultCode resultMessage"),
    (TokenListResponse, "accessTokens client end start subject totalCount"),
    (RevocationRequest, "clientCertificate clientCertificatePath clientId clientSecret oauthClientAttestation \
        oauthClientAttestationPop parameters"),
    (RevocationResponse, "action responseContent resultCode resultMessage"),
}

#[test]
fn an_action_that_is_not_known_does_not_decode_and_none_is_no_ok() {
    assert!(serde_json::from_str::<IntrospectionResponse>(r#"{"action":"FINE"}"#).is_err());
    assert!(serde_json::from_str::<TokenUpdateResponse>(r#"{"action":"FINE"}"#).is_err());
    let absent: IntrospectionResponse = serde_json::from_str("{}").unwrap();
    assert_eq!(absent.action, IntrospectionAction::InternalServerError);
}

#[test]
fn names_that_decide_nothing_are_kept_whatever_they_are() {
    let response: IntrospectionResponse =
        serde_json::from_str(r#"{"action":"OK","grantType":"TELEPATHY"}"#).unwrap();
    assert_eq!(response.grant_type, Some(GrantType::Other("TELEPATHY".into())));
    assert_eq!(object(&response)["grantType"], "TELEPATHY");
}

#[test]
fn null_and_empty_differ_where_authlete_says_so() {
    let request = TokenUpdateRequest::new().access_token("abc");
    assert_eq!(object(&request).len(), 1);
    let request = request.scopes([""; 0]).properties([("", ""); 0]);
    assert_eq!(object(&request)["scopes"], json!([]));
    assert_eq!(object(&request)["properties"], json!([]));
}

#[test]
fn content_that_holds_tokens_is_not_seen() {
    let body = r#"{"access_token":"abc"}"#;
    let json = json!({ "action": "OK", "responseContent": body });
    let token: TokenResponse = serde_json::from_value(json.clone()).unwrap();
    let issue: TokenIssueResponse = serde_json::from_value(json).unwrap();
    assert!(!format!("{token:?} {issue:?}").contains("abc"));
}
