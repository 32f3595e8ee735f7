//! Tokens that are bound to a certificate work over its holder's connection only (RFC 8705).

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        server::WebPkiClientVerifier,
    },
};
use tower::{Layer, service_fn};
use tower_authlete::{AuthLayer, ClientCertificate, ClientCertificates, PeerAddr};

use crate::support::{Bench, send};

/// Certificates made for the test, and a server that lets clients do without one.
struct Tls {
    issuer: CertifiedIssuer<'static, KeyPair>,
    address: SocketAddr,
}

struct Client {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Client {
    fn thumbprint(&self) -> String {
        BASE64.encode(Sha256::digest(&self.chain[0]))
    }
}

impl Tls {
    async fn serve(auth: AuthLayer) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = Self { issuer, address: listener.local_addr().unwrap() };
        let (own, provider) = (tls.certificate("localhost"), Arc::new(ring::default_provider()));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(tls.roots().into(), provider.clone())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(own.chain, own.key)
            .unwrap();
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), auth));
        tls
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    fn certificate(&self, name: &str) -> Client {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Client {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// `GET /` over a connection of this client.
    async fn get(&self, client: Option<&Client>, token: &str) -> StatusCode {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let config = match client {
            Some(Client { chain, key }) => {
                config.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        sender.send_request(request).await.unwrap().status()
    }
}

/// What a server does: it tells the layer of the certificate that TLS has verified.
async fn accept(listener: TcpListener, tls: TlsAcceptor, auth: AuthLayer) {
    let hello = |_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    };
    let service = auth.layer(service_fn(hello));
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, service) = (tls.clone(), service.clone());
        tokio::spawn(async move {
            let stream = tls.accept(stream).await.unwrap();
            let chain = stream.get_ref().1.peer_certificates();
            let certificate = chain.and_then(|chain| chain.first());
            let certificate = certificate.map(|it| ClientCertificate::from_der(it.to_vec()));
            let service = tower::util::MapRequest::new(service, move |mut request: Request<_>| {
                certificate.clone().map(|it| request.extensions_mut().insert(it));
                request
            });
            let service = TowerToHyperService::new(service);
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn start(bench: &Bench) -> Tls {
    let settings = bench.layer().client_certificates(ClientCertificates::from_connection());
    Tls::serve(settings.build().unwrap()).await
}

#[tokio::test]
async fn a_bound_token_works_with_its_certificate_only_also_from_the_cache() {
    let bench = Bench::new().await;
    let tls = start(&bench).await;
    let (holder, thief) = (tls.certificate("holder"), tls.certificate("thief"));
    let token = bench.authlete.token().certificate_thumbprint(holder.thumbprint()).issue().await;
    // Whoever comes first.
    for client in [Some(&thief), None] {
        assert_eq!(tls.get(client, &token).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(
        tls.get(Some(&holder), &token).await,
        StatusCode::OK,
        "it is not the holder's fault"
    );
    let before = bench.introspections();
    assert_eq!(tls.get(Some(&holder), &token).await, StatusCode::OK);
    for client in [Some(&thief), None] {
        assert_eq!(tls.get(client, &token).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(bench.introspections(), before);
}

#[tokio::test]
async fn a_token_that_is_not_bound_works_with_any() {
    let bench = Bench::new().await;
    let tls = start(&bench).await;
    let (one, two) = (tls.certificate("one"), tls.certificate("two"));
    let token = bench.authlete.token().issue().await;
    for client in [Some(&one), Some(&two), None] {
        assert_eq!(tls.get(client, &token).await, StatusCode::OK);
    }
    assert_eq!(bench.introspections(), 1);
}

#[tokio::test]
async fn without_the_setting_a_bound_token_is_refused_whatever_authlete_says() {
    let bench = Bench::new().await;
    let tls = Tls::serve(bench.layer().build().unwrap()).await;
    let holder = tls.certificate("holder");
    let token = bench.authlete.token().certificate_thumbprint(holder.thumbprint()).issue().await;
    assert_eq!(tls.get(Some(&holder), &token).await, StatusCode::UNAUTHORIZED);
    // A service that leaves the comparison to us.
    let answer =
        serde_json::json!({ "action": "OK", "certificateThumbprint": holder.thumbprint() });
    bench.authlete.fault(tower_authlete::emulator::Fault::json(answer));
    assert_eq!(tls.get(Some(&holder), "other").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_trusted_proxy_tells_the_certificate_and_nobody_else() {
    let bench = Bench::new().await;
    let tls = start(&bench).await;
    let holder = tls.certificate("holder");
    let token = bench.authlete.token().certificate_thumbprint(holder.thumbprint()).issue().await;
    let proxies = ClientCertificates::from_client_cert_header(["10.0.0.0/8"]);
    let api = bench.api_with(|layer| layer.client_certificates(proxies));
    let header = base64::prelude::BASE64_STANDARD.encode(&holder.chain[0]);
    let get = async |peer: &str, header: &str| {
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        let request = request.header("client-cert", header);
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
        send(api.router.clone(), request).await.status
    };
    let header = format!(":{header}:");
    assert_eq!(get("10.0.0.1:1", &header).await, StatusCode::OK);
    assert_eq!(get("11.0.0.1:1", &header).await, StatusCode::UNAUTHORIZED, "forged");
    assert_eq!(get("10.0.0.1:1", "rubbish").await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_proxy_tells_one_certificate_of_bearable_length() {
    let bench = Bench::new().await;
    let proxies = ClientCertificates::from_client_cert_header(["10.0.0.0/8"]);
    let api = bench.api_with(|layer| layer.client_certificates(proxies));
    let token = bench.authlete.token().issue().await;
    let get = async |values: &[usize]| {
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        let request = values.iter().fold(request, |request, length| {
            let header = base64::prelude::BASE64_STANDARD.encode(vec![0; *length]);
            request.header("client-cert", format!(":{header}:"))
        });
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
        send(api.router.clone(), request).await.status
    };
    assert_eq!(get(&[2000]).await, StatusCode::OK);
    assert_eq!(get(&[2000, 2000]).await, StatusCode::BAD_REQUEST);
    assert_eq!(get(&[25_000]).await, StatusCode::BAD_REQUEST);
}
