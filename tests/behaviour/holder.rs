//! Clients with a key, DPoP-bound tokens, and requests with proofs (RFC 9449).

use std::time::UNIX_EPOCH;

use axum::{body::Body, extract::Request};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower_authlete::{Dpop, emulator::TokenBuilder, layer::AuthLayerBuilder, proof::PeerAddr};

use crate::{
    keys::{Key, merged},
    support::{Answer, Bench, ORIGIN, Protected, send},
};

/// A key, a token that is bound to it, and an API that accepts proofs.
pub(crate) struct Holder<'b> {
    pub(crate) bench: &'b Bench,
    pub(crate) api: Protected,
    pub(crate) key: Key,
    pub(crate) token: String,
}

impl<'b> Holder<'b> {
    pub(crate) async fn new(bench: &'b Bench) -> Self {
        Self::with(bench, |dpop| dpop, |layer| layer).await
    }

    pub(crate) async fn with(
        bench: &'b Bench,
        dpop: impl FnOnce(Dpop) -> Dpop,
        layer: impl FnOnce(AuthLayerBuilder) -> AuthLayerBuilder,
    ) -> Self {
        let api = bench.api_with(|settings| layer(settings.dpop(dpop(Dpop::for_origin(ORIGIN)))));
        Self::at(bench, api).await
    }

    /// A new holder at this API.
    pub(crate) async fn at(bench: &'b Bench, api: Protected) -> Self {
        let key = Key::es256();
        let token = Self::bound(bench, &key).await;
        Self { bench, api, key, token }
    }

    pub(crate) async fn bound(bench: &Bench, key: &Key) -> String {
        let token = bench.authlete.token().subject("alice").scopes(["read"]);
        token.dpop_key_thumbprint(key.thumbprint()).issue().await
    }

    /// The same holder with another token.
    pub(crate) async fn with_token(
        self,
        settings: impl FnOnce(TokenBuilder<'b>) -> TokenBuilder<'b>,
    ) -> Self {
        let token = settings(self.bench.authlete.token().subject("alice"));
        let token = token.dpop_key_thumbprint(self.key.thumbprint()).issue().await;
        Self { token, ..self }
    }

    /// The same token and key at another API.
    pub(crate) fn moved(self, api: Protected) -> Self {
        Self { api, ..self }
    }

    /// A proof for `GET /`, with these claims.
    pub(crate) fn proof(&self, changes: Value) -> String {
        self.proof_of(&self.key, changes)
    }

    pub(crate) fn proof_of(&self, key: &Key, changes: Value) -> String {
        let claims = json!({ "htu": format!("{ORIGIN}/") });
        let now = self.bench.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = merged(claims, json!({ "iat": now }));
        key.proof_for(&self.token, merged(claims, changes))
    }

    pub(crate) async fn present(&self, proof: &str) -> Answer {
        self.present_at("/", proof).await
    }

    pub(crate) async fn present_at(&self, path: &str, proof: &str) -> Answer {
        send(self.api.router.clone(), self.request(path, proof)).await
    }

    pub(crate) async fn get(&self) -> Answer {
        self.present(&self.proof(json!({}))).await
    }

    /// `GET` of a path, with a proof of its own.
    pub(crate) async fn get_at(&self, path: &str) -> Answer {
        let proof = self.proof(json!({ "htu": format!("{ORIGIN}{path}") }));
        self.present_at(path, &proof).await
    }

    /// `GET /` with a proof of its own, in a task of its own.
    pub(crate) fn spawn_get(&self) -> JoinHandle<Answer> {
        let request = self.request("/", &self.proof(json!({})));
        tokio::spawn(send(self.api.router.clone(), request))
    }

    pub(crate) fn request(&self, path: &str, proof: &str) -> Request {
        let request = Request::get(path).header("authorization", format!("DPoP {}", self.token));
        request.header("dpop", proof).body(Body::empty()).unwrap()
    }

    /// `GET` of a path through a proxy that adds these headers, with this proof.
    pub(crate) async fn present_by_proxy(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        proof: &str,
    ) -> Answer {
        let mut request = Request::get(path)
            .header("authorization", format!("DPoP {}", self.token))
            .header("dpop", proof);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
        send(self.api.router.clone(), request).await
    }

    /// `GET` of a path through a proxy that adds these headers, with a proof for this URL.
    pub(crate) async fn through_proxy(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        url: &str,
    ) -> Answer {
        self.present_by_proxy(path, headers, &self.proof(json!({ "htu": url }))).await
    }

    /// Sends a proof with these claims, which is refused.
    pub(crate) async fn refused(&self, changes: Value) {
        let answer = self.present(&self.proof(changes.clone())).await;
        assert_refused(&answer, "invalid_dpop_proof", &changes.to_string());
    }
}

pub(crate) fn assert_refused(answer: &Answer, error: &str, why: &str) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{why}");
    let expected = format!("DPoP error=\"{error}\"");
    assert!(answer.challenge().starts_with(&expected), "{why}: {}", answer.challenge());
    assert!(answer.challenge().contains("algs=\"ES256 ES384 Ed25519 EdDSA PS256 RS256\""), "{why}");
}

pub(crate) fn assert_invalid_token(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.challenge().contains("error=\"invalid_token\""), "{}", answer.challenge());
}
