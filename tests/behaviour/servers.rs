//! The layer in real servers, over HTTP/1.1 and HTTP/2.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_authlete::{AuthLayer, TokenInfo};

use crate::support::Bench;

/// A hand-written hyper service behind the layer.
async fn serve(auth: AuthLayer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = auth.layer(service_fn(hello));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let token = request.extensions().get::<TokenInfo>().unwrap().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let text = format!("{} sends {} bytes", token.subject().unwrap(), body.len());
    Ok(Response::new(text.into()))
}

#[tokio::test]
async fn tokens_are_checked_over_http_1_and_http_2() {
    let bench = Bench::new().await;
    let address = serve(bench.layer().build().unwrap()).await;
    let token = bench.authlete.token().subject("alice").issue().await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(version == Version::HTTP_2)
            .build_http::<Full<Bytes>>();
        let request = |token: &str| {
            Request::post(format!("http://{address}/"))
                .version(version)
                .header("authorization", format!("Bearer {token}"))
                .body(Full::from("1234"))
                .unwrap()
        };
        let response = client.request(request(&token)).await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, version));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "alice sends 4 bytes");
        let response = client.request(request("rubbish")).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let response = client.get(format!("http://{address}/").parse().unwrap()).await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
}
