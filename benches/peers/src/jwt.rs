//! `jwt-authorizer`: tokens that are looked into instead of asked about. It verifies an RS256
//! signature on every request.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use jwt_authorizer::{AuthError, Authorizer, IntoLayer, JwtAuthorizer, Validation};
use rsa::{
    RsaPrivateKey,
    pkcs1::{EncodeRsaPrivateKey, LineEnding},
    pkcs8::EncodePublicKey,
    rand_core::OsRng,
};
use serde::{Deserialize, Serialize};
use tower::ServiceBuilder;

use crate::{
    BoxError,
    contender::{Answer, Contender, SCOPE, router},
    with_authlete::MAX_AGE,
    with_zitadel::in_seconds,
};

const BITS: usize = 2048;

#[derive(Clone, Serialize, Deserialize)]
struct Claims {
    sub: String,
    scope: String,
    exp: u64,
}

impl Claims {
    fn new(scope: &str, life: Duration) -> Self {
        Self { sub: "alice".into(), scope: scope.into(), exp: in_seconds(life) }
    }

    fn allow(&self) -> bool {
        self.scope.split(' ').any(|scope| scope == SCOPE)
    }

    fn sign(&self, key: &RsaPrivateKey) -> Result<String, BoxError> {
        let key = EncodingKey::from_rsa_pem(key.to_pkcs1_pem(LineEnding::LF)?.as_bytes())?;
        Ok(encode(&Header::new(Algorithm::RS256), self, &key)?)
    }
}

/// A router behind its layer.
pub(crate) async fn contender<A: Answer>() -> Result<Contender, BoxError> {
    let ours = RsaPrivateKey::new(&mut OsRng, BITS)?;
    let others = RsaPrivateKey::new(&mut OsRng, BITS)?;
    let good = Claims::new(SCOPE, 2 * MAX_AGE);
    let expired = Claims { exp: 1, ..good.clone() };
    let layer = ServiceBuilder::new()
        .layer(authorizer(&ours).await?.into_layer())
        .map_response(|response: Response| Today(response));
    Ok(Contender::new("jwt-authorizer, RS256", router::<A>().layer(layer), &good.sign(&ours)?)
        .refuses("rubbish", StatusCode::UNAUTHORIZED)
        .refuses(&good.sign(&others)?, StatusCode::UNAUTHORIZED)
        .refuses(&expired.sign(&ours)?, StatusCode::UNAUTHORIZED)
        .refuses(&Claims::new("profile", MAX_AGE).sign(&ours)?, StatusCode::FORBIDDEN))
}

async fn authorizer(key: &RsaPrivateKey) -> Result<Authorizer<Claims>, BoxError> {
    let key = key.to_public_key().to_public_key_pem(LineEnding::LF)?;
    let authorizer = JwtAuthorizer::from_rsa_pem_text(&key).check(Claims::allow);
    let validation = Validation::new().algs(vec![Algorithm::RS256]);
    Ok(authorizer.validation(validation).build().await?)
}

/// The response of today's axum; `jwt-authorizer` refuses in that of the one before.
struct Today(Response);

impl From<AuthError> for Today {
    fn from(error: AuthError) -> Self {
        let (head, _) = http::Response::from(error).into_parts();
        Self(Response::from_parts(head, axum::body::Body::empty()))
    }
}

impl IntoResponse for Today {
    fn into_response(self) -> Response {
        self.0
    }
}
