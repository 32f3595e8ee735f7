//! Extractors for axum: [`TokenInfo`], [`Scopes`] and [`Properties`], and `Option`s of them.
//!
//! Behind an [`optional`](crate::layer::AuthLayerBuilder::optional) layer, a request without a token is 401, or
//! `None` for an `Option`. Without a layer, both are 500.

use axum_core::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;

use crate::{
    credentials::RequestHead,
    rejection::Rejection,
    request::refuse::{refuse_inside, refuser},
    token::{Properties, Scopes, TokenInfo},
};

/// There is nothing to extract: 401 without a token, 500 without a layer. The response is rendered by the
/// layer's [`Renderer`](crate::rejection::Renderer).
#[derive(Debug)]
pub struct ExtractError(Box<Response<Body>>);

impl ExtractError {
    fn new(parts: &Parts, rejection: &Rejection) -> Self {
        let Parts { method, uri, version, headers, extensions, .. } = parts;
        let head = RequestHead { method, uri, version: *version, headers };
        Self(Box::new(refuse_inside(head, extensions, rejection)))
    }
}

impl IntoResponse for ExtractError {
    fn into_response(self) -> Response {
        *self.0
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
