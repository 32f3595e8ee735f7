//! The client against hand-written servers: what it sends, over which protocols, and how it fails.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tower_authlete::{
    Authlete,
    api::{
        ApiVersion, AuthleteBuilder, Error, ErrorKind, IntrospectionRequest, RevocationRequest,
        TokenCreateRequest, TokenFailRequest, TokenIssueRequest, TokenListRequest, TokenRequest,
        TokenRevokeRequest, TokenUpdateRequest,
    },
};

const SECRET: &str = "S3cr3t";

/// A request as a server received it.
#[derive(Debug)]
struct Seen {
    version: Version,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: String,
}

struct Server {
    address: SocketAddr,
    seen: UnboundedReceiver<Seen>,
    connections: Arc<AtomicUsize>,
}

type Answer = Response<Full<Bytes>>;

fn ok(body: &str) -> Answer {
    Response::new(Full::from(body.to_owned()))
}

/// A server that responds to every request with this.
async fn serve(answer: Answer) -> Server {
    serve_with(answer, None).await
}

async fn serve_with(answer: Answer, tls: Option<tokio_rustls::TlsAcceptor>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, seen) = unbounded_channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let (sender, answer, tls) = (sender.clone(), answer.clone(), tls.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| see(request, sender.clone(), answer.clone()));
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = match tls {
                    None => server.serve_connection(TokioIo::new(stream), service).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                        Err(_) => Ok(()),
                    },
                };
            });
        }
    });
    Server { address, seen, connections }
}

async fn see(
    request: Request<Incoming>,
    sender: UnboundedSender<Seen>,
    answer: Answer,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let seen = Seen {
        version: head.version,
        method: head.method,
        path: head.uri.path_and_query().unwrap().to_string(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    sender.send(seen).unwrap();
    Ok(answer)
}

impl Server {
    fn builder(&self) -> AuthleteBuilder {
        builder(&format!("http://{}", self.address))
    }
}

fn builder(url: &str) -> AuthleteBuilder {
    Authlete::builder()
        .base_url(url)
        .service_id("715948317")
        .service_access_token(SECRET)
        .service_api_secret(SECRET)
}

async fn introspect(builder: AuthleteBuilder) -> Result<(), Error> {
    let request = IntrospectionRequest::new().token(SECRET);
    builder.build().unwrap().introspection(&request).await.map(|_| ())
}

/// An error in all the ways in which it can get into a log.
fn told(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn each_call_has_its_method_and_path() {
    let mut server = serve(ok(r#"{"action":"OK"}"#)).await;
    let authlete = server.builder().build().unwrap();
    authlete.introspection(&IntrospectionRequest::new().token("a").scopes(["b"])).await.unwrap();
    authlete.token(&TokenRequest::new()).await.unwrap();
    authlete.token_issue(&TokenIssueRequest::new()).await.unwrap();
    let _ = authlete.token_fail(&TokenFailRequest::new()).await;
    authlete.token_create(&TokenCreateRequest::new()).await.unwrap();
    authlete.token_update(&TokenUpdateRequest::new()).await.unwrap();
    authlete.token_revoke(&TokenRevokeRequest::new()).await.unwrap();
    authlete.revocation(&RevocationRequest::new()).await.unwrap();
    authlete.token_delete("a/b+c=").await.unwrap();
    let list = TokenListRequest::new().client_identifier("my client").subject("a&b").start(1);
    authlete.token_list(&list).await.unwrap();
    for (method, path, body) in [
        ("POST", "/auth/introspection", r#"{"token":"a","scopes":["b"]}"#),
        ("POST", "/auth/token", "{}"),
        ("POST", "/auth/token/issue", "{}"),
        ("POST", "/auth/token/fail", "{}"),
        ("POST", "/auth/token/create", "{}"),
        ("POST", "/auth/token/update", "{}"),
        ("POST", "/auth/token/revoke", "{}"),
        ("POST", "/auth/revocation", "{}"),
        ("DELETE", "/auth/token/delete/a%2Fb%2Bc%3D", ""),
        ("GET", "/auth/token/get/list?clientIdentifier=my+client&subject=a%26b&start=1", ""),
    ] {
        let seen = server.seen.recv().await.unwrap();
        assert_eq!((seen.method.as_str(), seen.body.as_str()), (method, body), "{path}");
        assert_eq!(seen.path, format!("/api/715948317{path}"));
        assert_eq!(seen.headers["authorization"], format!("Bearer {SECRET}"));
        let agent = concat!("tower-authlete/", env!("CARGO_PKG_VERSION"));
        assert_eq!(seen.headers["user-agent"], agent);
        assert_eq!(seen.headers.contains_key("content-type"), method == "POST");
    }
}

#[tokio::test]
async fn v2_names_no_service_in_its_paths_and_uses_basic() {
    let mut server = serve(ok(r#"{"action":"OK"}"#)).await;
    introspect(server.builder().api_version(ApiVersion::V2)).await.unwrap();
    let seen = server.seen.recv().await.unwrap();
    assert_eq!(seen.path, "/api/auth/introspection");
    // base64 of `715948317:S3cr3t`
    assert_eq!(seen.headers["authorization"], "Basic NzE1OTQ4MzE3OlMzY3IzdA==");
}

#[tokio::test]
async fn the_base_can_have_a_path_and_a_slash() {
    let mut server = serve(ok(r#"{"action":"OK"}"#)).await;
    let url = format!("http://{}/authlete/", server.address);
    introspect(builder(&url).user_agent("mine/1")).await.unwrap();
    let seen = server.seen.recv().await.unwrap();
    assert_eq!(seen.path, "/authlete/api/715948317/auth/introspection");
    assert_eq!(seen.headers["user-agent"], "mine/1");
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = serve(ok(r#"{"action":"OK"}"#)).await;
    let authlete = server.builder().build().unwrap();
    for _ in 0..5 {
        let request = IntrospectionRequest::new().token("a");
        authlete.clone().introspection(&request).await.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[cfg(feature = "rustls")]
mod tls {
    use std::sync::Arc;

    use tokio_rustls::rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };

    use super::*;

    /// A server with a certificate for 127.0.0.1, and that certificate.
    async fn serve_tls(protocols: &[&str]) -> (Server, String) {
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let private = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], PrivateKeyDer::from(private))
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        (serve_with(ok(r#"{"action":"OK"}"#), Some(acceptor)).await, key.cert.pem())
    }

    #[tokio::test]
    async fn http_2_is_used_where_the_server_has_it_and_else_http_1() {
        for (protocols, version) in [
            (&["h2", "http/1.1"][..], Version::HTTP_2),
            (&["http/1.1"], Version::HTTP_11),
            (&[], Version::HTTP_11),
        ] {
            let (mut server, pem) = serve_tls(protocols).await;
            let url = format!("https://{}", server.address);
            introspect(builder(&url).root_certificate_pem(pem)).await.unwrap();
            assert_eq!(server.seen.recv().await.unwrap().version, version);
        }
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_trusted_is_refused() {
        let (server, _) = serve_tls(&["http/1.1"]).await;
        let (_, other) = serve_tls(&["http/1.1"]).await;
        let url = format!("https://{}", server.address);
        let error = introspect(builder(&url).root_certificate_pem(other)).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Connection(_)), "{error:?}");
        assert!(error.is_retryable() && !error.is_our_fault());
    }

    #[tokio::test]
    async fn a_handshake_that_hangs_ends_with_the_connect_timeout() {
        // It accepts, and sends nothing.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (_, pem) = serve_tls(&[]).await;
        let builder = builder(&url)
            .root_certificate_pem(pem)
            .connect_timeout(Duration::from_millis(50))
            .deadline(Duration::from_secs(60));
        let error = introspect(builder).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Connection(_)), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_its_deadline() {
    let hanging = tower::service_fn(|_: Request<_>| pending::<Result<Answer, Infallible>>());
    let before = tokio::time::Instant::now();
    let error = introspect(builder("https://authlete.example").transport(hanging)).await;
    let error = error.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline(_)), "{error:?}");
    assert!(error.is_retryable());
    // Paused time: this is the deadline, not how long the test took.
    assert_eq!(before.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_hangs_ends_with_the_deadline_too() {
    let hanging = tower::service_fn(|_: Request<_>| async {
        let body = http_body_util::BodyExt::boxed(Hanging);
        Ok::<_, Infallible>(Response::new(body))
    });
    let builder = builder("https://authlete.example").transport(hanging);
    let error = introspect(builder.deadline(Duration::from_secs(7))).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Deadline(it) if it.as_secs() == 7), "{error:?}");
}

struct Hanging;

impl http_body::Body for Hanging {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_an_error_of_its_own() {
    let server = serve(ok(&format!(r#"{{"action":"OK","subject":"{}"}}"#, "a".repeat(1000)))).await;
    let error = introspect(server.builder().max_response_size(1000)).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::TooLarge(1000)), "{error:?}");
    introspect(server.builder().max_response_size(2000)).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_cannot_be_decoded_tells_where() {
    for (body, expected_path, expected_column) in [
        (r#"{"action":"OK","properties":[{"key":"a"},{"key":1}]}"#, "properties[1].key", 49),
        (r#"{"action":"FINE"}"#, "action", 16),
        (r#"{"action":"OK""#, "?", 14),
        ("<html>", ".", 1),
        (r#"{"action":"OK"} x"#, ".", 17),
    ] {
        let server = serve(ok(body)).await;
        let error = introspect(server.builder()).await.unwrap_err();
        let ErrorKind::Undecodable { path, line: _, column, .. } = &error.kind else {
            panic!("{error:?}");
        };
        assert_eq!((path.as_str(), *column), (expected_path, expected_column), "{body}");
        assert!(!error.is_retryable() && !error.is_our_fault());
    }
}

#[tokio::test]
async fn a_refusal_tells_what_authlete_says() {
    let body = r#"{"resultCode":"A001202","resultMessage":"[A001202] no header"}"#;
    let mut answer = ok(body);
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    let error = introspect(serve(answer).await.builder()).await.unwrap_err();
    assert!(error.is_our_fault());
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(text, "refused with status 401: [A001202] no header");
    assert_eq!(error.to_string(), "call to Authlete's /auth/introspection failed");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let mut answer = ok("");
    *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let other = serve(ok(r#"{"action":"OK"}"#)).await;
    let location = format!("http://{}/", other.address).parse().unwrap();
    answer.headers_mut().insert("location", location);
    let error = introspect(serve(answer).await.builder()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Refused(_)), "{error:?}");
    assert_eq!(other.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_transport_of_the_users_carries_the_calls() {
    let transport = tower::service_fn(|request: Request<Full<Bytes>>| async move {
        let expected = "https://authlete.example/api/715948317/auth/introspection";
        assert_eq!(request.uri().to_string(), expected);
        assert!(request.headers()["authorization"].is_sensitive());
        Ok::<_, Infallible>(ok(r#"{"action":"OK"}"#))
    });
    introspect(builder("https://authlete.example").transport(transport)).await.unwrap();
}

#[tokio::test]
async fn no_error_holds_a_secret() {
    let echo = |status: u16, body: String| {
        let mut answer = ok(&body);
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer
    };
    let mut errors = Vec::new();
    for answer in [
        echo(200, format!(r#"{{"action":"{SECRET}"}}"#)),
        echo(200, format!(r#"{{"action":"OK","expiresAt":"{SECRET}"}}"#)),
        echo(200, SECRET.into()),
        echo(500, format!("<html>{SECRET}")),
    ] {
        let server = serve(answer).await;
        errors.push(introspect(server.builder()).await.unwrap_err());
        let authlete = server.builder().build().unwrap();
        errors.extend(authlete.token_delete(SECRET).await.err());
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let authlete = builder(&format!("http://{closed}")).build().unwrap();
    errors.push(authlete.token_delete(SECRET).await.unwrap_err());
    let hanging = tower::service_fn(|_: Request<_>| pending::<Result<Answer, Infallible>>());
    let hanging = builder("https://a").transport(hanging).deadline(Duration::from_millis(1));
    errors.push(hanging.build().unwrap().token_delete(SECRET).await.unwrap_err());
    assert_eq!(errors.len(), 7);
    for error in errors {
        let text = told(&error);
        assert!(!text.contains(SECRET), "{text}");
    }
}
