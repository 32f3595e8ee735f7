//! Client certificates at the endpoints (RFC 8705).

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::Value;
use tower_authlete::{
    AuthLayer,
    emulator::Emulator,
    endpoint::{RevocationEndpoint, TokenEndpoint},
    proof::{ClientCertificate, ClientCertificates, PeerAddr},
};

use crate::{
    authorization_server::{Server, body_of, post, router},
    support::{Bench, Protected, send},
};

#[tokio::test]
async fn a_token_is_bound_to_the_certificate_that_its_client_presented() {
    let clock = tower_authlete::clock::Clock::system();
    let authlete = Emulator::builder().clock(clock.clone()).certificate_bound_tokens(true);
    let bench = Bench { authlete: authlete.start().await.unwrap(), clock };
    let certificates = ClientCertificates::from_connection;
    let auth: AuthLayer = bench.layer().client_certificates(certificates()).build().unwrap();
    let token = TokenEndpoint::builder(bench.authlete.authlete(), &auth.handle())
        .client_certificates(certificates());
    let endpoints = router(token, None);
    let server = Server { bench: &bench, api: Protected::new(&auth), endpoints };
    let holder = ClientCertificate::from_der(&b"0\x03\x02\x01\x05"[..]);

    let form = "grant_type=client_credentials&scope=read";
    let mut request = post("/token", form, &[("authorization", &server.basic())]);
    request.extensions_mut().insert(holder.clone());
    let answer = send(server.endpoints.clone(), request).await;
    let token = body_of(&answer)["access_token"].as_str().unwrap().to_owned();
    let get = async |certificate: Option<&ClientCertificate>| {
        let request = Request::get("/read").header("authorization", format!("Bearer {token}"));
        let mut request = request.body(Body::empty()).unwrap();
        certificate.map(|it| request.extensions_mut().insert(it.clone()));
        send(server.api.router.clone(), request).await.status
    };
    let thief = ClientCertificate::from_der(&b"0\x03\x02\x01\x06"[..]);
    assert_eq!(get(None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(get(Some(&thief)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(get(Some(&holder)).await, StatusCode::OK);
}

#[tokio::test]
async fn a_malformed_certificate_of_a_proxy_is_refused_without_a_call() {
    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let (authlete, handle) = (bench.authlete.authlete(), auth.handle());
    let proxies = || ClientCertificates::from_client_cert_header(["10.0.0.0/8"]);
    let token = TokenEndpoint::builder(authlete.clone(), &handle).client_certificates(proxies());
    let revoke = RevocationEndpoint::builder(authlete, &handle).client_certificates(proxies());
    let endpoints = router(token, Some(revoke));
    for path in ["/token", "/revoke"] {
        let mut request = post(path, "token=abc", &[("client-cert", "rubbish")]);
        request.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
        let answer = send(endpoints.clone(), request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(body_of(&answer)["error"], "invalid_request");
    }
    assert_eq!(bench.authlete.total_calls(), 0);
}

#[tokio::test]
async fn the_path_of_a_clients_certificate_is_sent_to_authlete() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use http_body_util::BodyExt;

    let bench = Bench::new().await;
    let auth: AuthLayer = bench.layer().build().unwrap();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let authlete = bench.watched(move |request| told.send(request.body().clone()).unwrap());
    let authlete = authlete.build().unwrap();
    let (certificates, handle) = (ClientCertificates::from_connection, auth.handle());
    let token =
        TokenEndpoint::builder(authlete.clone(), &handle).client_certificates(certificates());
    let revoke = RevocationEndpoint::builder(authlete, &handle).client_certificates(certificates());
    let endpoints = router(token, Some(revoke));
    let path = [&b"0\x01\x02"[..], &b"0\x01\x03"[..]];
    let certificate = ClientCertificate::from_der(&b"0\x01\x01"[..]).with_path(path);
    for endpoint in ["/token", "/revoke"] {
        let mut request = post(endpoint, "token=abc", &[]);
        request.extensions_mut().insert(certificate.clone());
        send(endpoints.clone(), request).await;
        let body = heard.recv().await.unwrap().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["clientCertificate"], certificate.to_pem());
        let told = body["clientCertificatePath"].as_array().unwrap().iter();
        let told: Vec<_> = told.map(|pem| pem.as_str().unwrap().lines().nth(1).unwrap()).collect();
        assert_eq!(told, path.map(|der| BASE64_STANDARD.encode(der)), "{endpoint}");
    }
}
