//! Certificate-bound tokens need the certificate (RFC 8705 §3).

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
use tower_authlete::{AuthLayer, ClientCertificate, ClientCertificates, PeerAddr, Refresh};

use crate::support::{Answer, Bench, Protected, SECOND, send, wrong_settings};

/// Generated certificates, and a server that requests but does not require one.
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

/// Inserts the certificate that TLS verified into requests, as servers do.
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
    // For the first request of either client.
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
    // A service that does not compare the thumbprint.
    let answer =
        serde_json::json!({ "action": "OK", "certificateThumbprint": holder.thumbprint() });
    bench.authlete.fault(tower_authlete::emulator::Fault::json(answer));
    assert_eq!(tls.get(Some(&holder), "other").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_certificate_is_read_from_trusted_proxies_only() {
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

const VICTIM: &[u8] = b"the victim's certificate";
const MALLORY: &[u8] = b"mallory's certificate";

/// PEM as Envoy and nginx write it.
fn escaped(der: &[u8]) -> String {
    let pem = ClientCertificate::from_der(der.to_vec()).to_pem();
    percent_encoding::utf8_percent_encode(&pem, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The header that Envoy writes, which contains SANs unescaped.
fn element(der: &[u8], subject: &str, sans: &str) -> String {
    let hash = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688";
    let cert = escaped(der);
    format!("By=spiffe://mesh/api;Hash={hash};Cert=\"{cert}\";Subject=\"{subject}\";{sans}")
}

/// A token that is bound to the victim's certificate, and an API that takes it from a header.
struct Proxied {
    api: Protected,
    token: String,
}

impl Proxied {
    async fn new(bench: &Bench, certificates: ClientCertificates) -> Self {
        let api = bench.api_with(|layer| layer.client_certificates(certificates));
        let thumbprint = BASE64.encode(Sha256::digest(VICTIM));
        let token = bench.authlete.token().certificate_thumbprint(thumbprint).issue().await;
        Self { api, token }
    }

    async fn get(&self, headers: &[(&str, &str)]) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let request = Request::get("/").header("authorization", bearer);
        let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddr("10.0.0.1:1".parse().unwrap()));
        send(self.api.router.clone(), request).await
    }

    async fn status(&self, xfcc: &str) -> StatusCode {
        self.get(&[("x-forwarded-client-cert", xfcc)]).await.status
    }
}

#[tokio::test]
async fn names_in_a_certificate_cannot_forge_another_certificate() {
    let bench = Bench::new().await;
    let proxied = Proxied::new(&bench, ClientCertificates::from_envoy(["10.0.0.1"])).await;
    let victim =
        element(VICTIM, "CN=victim", "URI=spiffe://mesh/victim;DNS=a.example;DNS=b.example");
    assert_eq!(proxied.status(&victim).await, StatusCode::OK);
    assert_eq!(proxied.status(&element(VICTIM, "", "URI=")).await, StatusCode::OK);
    let cert = format!("Cert=\"{}\"", escaped(VICTIM));
    let bare = format!("Cert={}", escaped(VICTIM));
    // An unexpected element makes the certificate unknown.
    for sans in [
        format!("URI=x,{cert}"),
        format!("URI=x, By=y;{cert};Subject=\"CN=victim\""),
        format!("URI=x,,{cert}"),
        format!("DNS=x,{bare}"),
        format!("URI=x,{victim}"),
    ] {
        let status = proxied.status(&element(MALLORY, "CN=m", &sans)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{sans}");
    }
    // Another parameter, or quotes.
    for sans in [
        format!("URI=x;{cert}"),
        format!("URI=x;cert={}", escaped(VICTIM)),
        format!("URI=x\";{cert};y=\"z"),
        format!("URI=\"x;{cert}"),
        format!("URI=\";{cert}"),
        "URI=\"".into(),
        "URI=x\"y".into(),
        "URI=x;y".into(),
        format!("URI=x;Hash=0;{cert}"),
        format!("URI=x;Subject=\"CN=victim\",{cert}"),
    ] {
        let status = proxied.status(&element(MALLORY, "CN=m", &sans)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{sans}");
    }
    // A subject is quoted, and its quotes are escaped.
    for subject in [
        "CN=m".to_owned(),
        format!(r#"CN=m\",{bare};x=\""#),
        // The RFC 2253 form of `CN=m",Cert=…;x="` by OpenSSL, which escapes quotes and commas.
        format!(r#"CN=m\"\,{bare}\;x=\""#),
    ] {
        let status = proxied.status(&element(MALLORY, &subject, "URI=")).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{subject}");
    }
    // Without a certificate of the proxy, that of the client is ignored.
    for chosen in ["Subject=\"CN=m\";URI=x", "URI=x", "Subject=\"CN=m\";DNS=a;DNS=b", "X=y"] {
        let status = proxied.status(&format!("By=y;Hash=0;{chosen};{cert}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{chosen}");
    }
    assert_eq!(proxied.status("By=y;Hash=0;URI=x").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn of_as_many_elements_as_there_are_proxies_the_first_is_the_clients() {
    let bench = Bench::new().await;
    let two = ClientCertificates::from_envoy(["10.0.0.1"]).xfcc_elements(2);
    let proxied = Proxied::new(&bench, two).await;
    let proxy = element(b"the first proxy's certificate", "CN=edge", "URI=spiffe://mesh/edge");
    let (victim, mallory) = (element(VICTIM, "CN=v", "URI=v"), element(MALLORY, "CN=m", "URI=m"));
    for (elements, expected) in [
        (format!("{victim},{proxy}"), StatusCode::OK),
        (format!("{mallory},{proxy}"), StatusCode::UNAUTHORIZED),
        (format!("{mallory},{victim}"), StatusCode::UNAUTHORIZED),
        (victim.clone(), StatusCode::UNAUTHORIZED),
        (format!("{victim},{victim},{proxy}"), StatusCode::UNAUTHORIZED),
        (format!("{mallory},{victim},{proxy}"), StatusCode::UNAUTHORIZED),
        (format!("{mallory}\",{proxy}"), StatusCode::BAD_REQUEST),
        (format!("{mallory};y=\",{proxy}"), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(proxied.status(&elements).await, expected, "{elements}");
    }
    let lines = [("x-forwarded-client-cert", &*victim), ("x-forwarded-client-cert", &*proxy)];
    assert_eq!(proxied.get(&lines).await.status, StatusCode::BAD_REQUEST, "two lines");
}

#[tokio::test]
async fn a_certificate_header_with_an_unexpected_number_of_elements_is_refused() {
    let bench = Bench::new().await;
    for wrong in [
        ClientCertificates::from_envoy(["10.0.0.1"]).xfcc_elements(0),
        ClientCertificates::from_connection().xfcc_elements(1),
        ClientCertificates::from_client_cert_header(["10.0.0.1"]).xfcc_elements(2),
    ] {
        let error = bench.layer().client_certificates(wrong).build().unwrap_err();
        assert_eq!(wrong_settings(&error), ["client_certificates.xfcc_elements"]);
    }
}

#[tokio::test]
async fn a_header_holds_one_certificate_and_nothing_else() {
    let bench = Bench::new().await;
    let name = http::HeaderName::from_static("x-cert");
    let nginx =
        Proxied::new(&bench, ClientCertificates::from_escaped_pem(name, ["10.0.0.1"])).await;
    let proxies = ClientCertificates::from_client_cert_header(["10.0.0.1"]);
    let rfc9440 = Proxied::new(&bench, proxies).await;
    let base64 = |der: &[u8]| base64::prelude::BASE64_STANDARD.encode(der);
    let (victim, mallory) = (escaped(VICTIM), escaped(MALLORY));
    for (proxied, name, value, expected) in [
        (&nginx, "x-cert", victim.clone(), StatusCode::OK),
        (&nginx, "x-cert", mallory.clone(), StatusCode::UNAUTHORIZED),
        (&nginx, "x-cert", format!("{mallory}{victim}"), StatusCode::BAD_REQUEST),
        (&nginx, "x-cert", format!("{victim}{mallory}"), StatusCode::BAD_REQUEST),
        (&nginx, "x-cert", format!("{mallory},{victim}"), StatusCode::BAD_REQUEST),
        (&nginx, "x-cert", format!("x{victim}"), StatusCode::BAD_REQUEST),
        (&nginx, "x-cert", format!("{victim}x"), StatusCode::BAD_REQUEST),
        (&rfc9440, "client-cert", format!(":{}:", base64(VICTIM)), StatusCode::OK),
        (&rfc9440, "client-cert", format!(":{}:", base64(MALLORY)), StatusCode::UNAUTHORIZED),
        (
            &rfc9440,
            "client-cert",
            format!(":{}:, :{}:", base64(MALLORY), base64(VICTIM)),
            StatusCode::BAD_REQUEST,
        ),
        (
            &rfc9440,
            "client-cert",
            format!(":{}:;a=:{}:", base64(MALLORY), base64(VICTIM)),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        assert_eq!(proxied.get(&[(name, &value)]).await.status, expected, "{name}: {value}");
    }
    let lines = [("x-cert", &*mallory), ("x-cert", &*victim)];
    assert_eq!(nginx.get(&lines).await.status, StatusCode::BAD_REQUEST, "two lines");
}

/// A token of alice's that expires in 15 s and is bound to the victim's certificate, and `GET /` with it over a
/// connection with that certificate, or with none.
async fn presents(bench: &Bench) -> impl AsyncFn(&Protected, bool) -> StatusCode {
    let token = bench.authlete.token().subject("alice").expires_in(15 * SECOND);
    let token = token.certificate_thumbprint(BASE64.encode(Sha256::digest(VICTIM))).issue().await;
    async move |api, with_certificate| {
        let request = Request::get("/").header("authorization", format!("Bearer {token}"));
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        if with_certificate {
            request.extensions_mut().insert(ClientCertificate::from_der(VICTIM));
        }
        send(api.router.clone(), request).await.status
    }
}

#[tokio::test]
async fn a_request_without_the_certificate_leaves_the_holders_entry_as_it_is() {
    let bench = Bench::new().await;
    let settings = bench.layer().client_certificates(ClientCertificates::from_connection());
    let auth: AuthLayer = settings.build().unwrap();
    let (cached, fresh) = (Protected::new(&auth), Protected::new(&auth.bypass_cache()));
    let get = presents(&bench).await;
    assert_eq!(get(&cached, true).await, StatusCode::OK);
    assert_eq!(get(&fresh, false).await, StatusCode::UNAUTHORIZED);
    let before = bench.introspections();
    assert_eq!(get(&cached, true).await, StatusCode::OK);
    assert_eq!(bench.introspections(), before, "the entry was lost");
}

#[tokio::test]
async fn a_request_without_the_certificate_starts_no_background_call() {
    let bench = Bench::new().await;
    let refresh = Refresh::extend().when_below(10 * SECOND).to(30 * SECOND);
    let settings = bench.layer().client_certificates(ClientCertificates::from_connection());
    let api = Protected::new(&settings.refresh(refresh).build().unwrap());
    let get = presents(&bench).await;
    assert_eq!(get(&api, true).await, StatusCode::OK);
    // An admitted request would extend the token now.
    bench.clock.advance(6 * SECOND);
    assert_eq!(get(&api, false).await, StatusCode::UNAUTHORIZED);
    // A call that was started before this one would have arrived by now.
    api.get("another").await;
    assert_eq!(bench.introspections(), 2, "a request that is refused asked Authlete");
    assert_eq!(get(&api, true).await, StatusCode::OK);
}
