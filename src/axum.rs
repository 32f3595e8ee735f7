//! Extractors for axum: [`TokenInfo`], [`Scopes`] and [`Properties`], and `Option`s of them.
//!
//! Where the layer is [`optional`](crate::AuthLayerBuilder::optional), extracting from a request
//! without a token is refused with 401, and the `Option` is `None`. Where there is no layer at all,
//! both are refused with 500.

use axum_core::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;

use crate::{
    credentials::RequestHead,
    rejection::Rejection,
    request::refuse::{guard, refuse_inside},
    token::{Properties, Scopes, TokenInfo},
};

/// Why there is nothing to extract. As a response it looks like those of the layer.
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

fn find(parts: &Parts) -> Result<Option<&TokenInfo>, ExtractError> {
    match guard(&parts.extensions) {
        Ok(_) => Ok(parts.extensions.get()),
        Err(rejection) => Err(ExtractError::new(parts, &rejection)),
    }
}

macro_rules! extractor {
    ($($type:ident $of:expr;)*) => {$(
        impl<S: Sync> FromRequestParts<S> for $type {
            type Rejection = ExtractError;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ExtractError> {
                find(parts)?
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
                Ok(find(parts)?.map($of))
            }
        }
    )*};
}

extractor! {
    TokenInfo TokenInfo::clone;
    Scopes |token: &TokenInfo| token.scopes().clone();
    Properties |token: &TokenInfo| token.properties().clone();
}
