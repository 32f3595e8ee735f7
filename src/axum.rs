//! Extractors for axum: [`TokenInfo`], [`Scopes`], [`Properties`] and [`TokenProperties`], and `Option`s of
//! them. Handlers refuse by [`Rejection`].
//!
//! Behind an [`optional`](crate::layer::AuthLayerBuilder::optional) layer, a request without a token is 401, or
//! `None` for an `Option`. Without a layer, both are 500.

use std::{fmt, sync::LazyLock};

use axum_core::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::{
    credentials::RequestHead,
    observe::{LogLimit, limited},
    rejection::Rejection,
    request::refuse::{refuse_inside, refuser},
    token::{Properties, PropertiesError, Scopes, TokenInfo},
};

/// The properties of the token as a type of yours, hidden ones included, by [`Properties::deserialize`].
///
/// Without a token it is 401. If the properties are not of the type, it is 403 `access_denied`: what a token
/// lacks satisfies nothing. The client is not told which property it is, since that may be a hidden one.
/// The log is told its name, and [`ExtractError::properties_error`] tells it, never its value.
///
/// ```
/// use axum::{Router, routing::get};
/// use serde::Deserialize;
/// use tower_authlete::axum::TokenProperties;
///
/// #[derive(Deserialize)]
/// struct Account {
///     plan: String,
///     seats: Option<u32>,
/// }
///
/// async fn account(TokenProperties(account): TokenProperties<Account>) -> String {
///     format!("{} with {} seats", account.plan, account.seats.unwrap_or(1))
/// }
///
/// let app: Router = Router::new().route("/account", get(account));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenProperties<T>(pub T);

impl<T> fmt::Debug for TokenProperties<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenProperties").finish_non_exhaustive()
    }
}

/// There is nothing to extract: 401 without a token, 403 if its properties are not of the type, 500 without a
/// layer. The response is rendered by the layer's [`Renderer`](crate::rejection::Renderer).
#[derive(Debug)]
pub struct ExtractError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    response: Response<Body>,
    properties: Option<PropertiesError>,
}

impl ExtractError {
    fn new(parts: &Parts, rejection: &Rejection) -> Self {
        let Parts { method, uri, version, headers, extensions, .. } = parts;
        let head = RequestHead { method, uri, version: *version, headers };
        let response = refuse_inside(head, extensions, rejection);
        Self(Box::new(Inner { response, properties: None }))
    }

    fn of_properties(parts: &Parts, error: PropertiesError) -> Self {
        // An extractor has no layer's limit.
        static LOG: LazyLock<LogLimit> = LazyLock::new(LogLimit::default);
        limited!(warn, LOG, field = error.field(), "a token's properties are not of their type");
        let description = "the access token lacks properties that are required";
        let mut this = Self::new(parts, &Rejection::forbidden(description));
        this.0.properties = Some(error);
        this
    }

    /// What is wrong with the properties, if [`TokenProperties`] did not find them of its type.
    #[must_use]
    pub fn properties_error(&self) -> Option<&PropertiesError> {
        self.0.properties.as_ref()
    }
}

impl IntoResponse for ExtractError {
    fn into_response(self) -> Response {
        self.0.response
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        self.into()
    }
}

fn token_info(parts: &Parts) -> Result<Option<&TokenInfo>, ExtractError> {
    match refuser(&parts.extensions) {
        Ok(_) => Ok(parts.extensions.get()),
        Err(rejection) => Err(ExtractError::new(parts, &rejection)),
    }
}

macro_rules! extractor {
    ($($type:ident $of:expr;)*) => {$(
        impl<S: Sync> FromRequestParts<S> for $type {
            type Rejection = ExtractError;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ExtractError> {
                token_info(parts)?
                    .map($of)
                    .ok_or_else(|| ExtractError::new(parts, &Rejection::no_credentials()))
            }
        }

        impl<S: Sync> OptionalFromRequestParts<S> for $type {
            type Rejection = ExtractError;

            async fn from_request_parts(
                parts: &mut Parts,
                _: &S,
            ) -> Result<Option<Self>, ExtractError> {
                Ok(token_info(parts)?.map($of))
            }
        }
    )*};
}

extractor! {
    TokenInfo TokenInfo::clone;
    Scopes |token: &TokenInfo| token.scopes().clone();
    Properties |token: &TokenInfo| token.properties().clone();
}

fn typed<T: DeserializeOwned>(
    parts: &Parts,
    token: &TokenInfo,
) -> Result<TokenProperties<T>, ExtractError> {
    let typed = token.properties().deserialize().map(TokenProperties);
    typed.map_err(|error| ExtractError::of_properties(parts, error))
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for TokenProperties<T> {
    type Rejection = ExtractError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ExtractError> {
        let token = <TokenInfo as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        typed(parts, &token)
    }
}

impl<S: Sync, T: DeserializeOwned> OptionalFromRequestParts<S> for TokenProperties<T> {
    type Rejection = ExtractError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, ExtractError> {
        token_info(parts)?.map(|token| typed(parts, token)).transpose()
    }
}
