//! The stacks that services are usually built of: each compiles, admits, and refuses with problem details.
//! That of tonic is in `examples/grpc`.

use std::{convert::Infallible, io, time::Duration};

use axum::{BoxError, Router, body::Body, routing::get};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{
    BodyExt, Empty, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};
use serde_json::Value;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn,
    util::BoxCloneSyncService,
};
use tower_authlete::{
    AuthLayer, AuthLayerBuilder, ProblemDetails, Rejection, RequireScopes, TokenInfo,
};
use tower_http::{
    compression::{CompressionBody, CompressionLayer},
    cors::CorsLayer,
    map_response_body::MapResponseBodyLayer,
    trace::TraceLayer,
};

use crate::support::{Bench, OK, UNAUTHORIZED};

const LONG: &str = "a text that is long enough to be compressed, if anybody asks for that";

/// `/` for everybody with a token, `/refuse` refused by its handler, `/read` by its requirement.
fn routes() -> Router {
    Router::new()
        .route("/", get(async |_: TokenInfo| LONG))
        .route("/refuse", get(async || Rejection::forbidden("by the handler")))
        .route("/read", get(async || LONG).route_layer(RequireScopes::all(["read"])))
}

/// The same without axum; `body` makes the bodies.
fn plain<B: Default + Send + 'static>(
    body: fn(Full<Bytes>) -> B,
) -> impl Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Clone {
    let read = RequireScopes::all(["read"])
        .layer(service_fn(move |_| async move { Ok(Response::new(body(LONG.into()))) }));
    service_fn(move |request: Request<Body>| {
        let read = read.clone();
        async move {
            match request.uri().path() {
                "/refuse" => Ok(Rejection::forbidden("by the handler").into()),
                "/read" => read.oneshot(request).await,
                _ => Ok(Response::new(body(LONG.into()))),
            }
        }
    })
}

fn problems(layer: AuthLayerBuilder) -> AuthLayer<ProblemDetails> {
    layer.renderer(ProblemDetails).build().unwrap()
}

fn boxed(body: Full<Bytes>) -> BoxBody<Bytes, io::Error> {
    body.map_err(|never| match never {}).boxed()
}

fn unsync(body: Full<Bytes>) -> UnsyncBoxBody<Bytes, BoxError> {
    body.map_err(Into::into).boxed_unsync()
}

/// What a stack answers: the status, the challenge and the body.
async fn get_from<S, B>(
    service: &S,
    path: &str,
    token: Option<&str>,
) -> (StatusCode, String, String)
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: std::fmt::Debug,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let mut request = Request::get(path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let response = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let challenge = response.headers().get(header::WWW_AUTHENTICATE);
    let challenge = challenge.map_or("", |value| value.to_str().unwrap()).to_owned();
    let length = response.headers().get(header::CONTENT_LENGTH).cloned();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(length.is_none_or(|it| it == body.len().to_string()), "{path}");
    (status, challenge, String::from_utf8(body.to_vec()).unwrap())
}

/// Admits, and refuses in three places. `problems`: refusals have a body.
async fn works<S, B>(bench: &Bench, service: S, problems: bool)
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: std::fmt::Debug,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let token = bench.authlete.token().issue().await;
    let (status, _, body) = get_from(&service, "/", Some(&token)).await;
    assert_eq!((status, body.as_str()), (OK, LONG));
    for (path, token, status, challenged) in [
        ("/", None, UNAUTHORIZED, true),
        ("/", Some("rubbish"), UNAUTHORIZED, true),
        ("/read", Some(&*token), StatusCode::FORBIDDEN, true),
        ("/refuse", Some(&*token), StatusCode::FORBIDDEN, false),
    ] {
        let answer = get_from(&service, path, token).await;
        assert_eq!((answer.0, !answer.1.is_empty()), (status, challenged), "{path} {answer:?}");
        if problems {
            let problem: Value = serde_json::from_str(&answer.2).unwrap();
            assert_eq!(problem["status"], status.as_u16(), "{path}");
        } else {
            assert_eq!(answer.2, "", "{path}");
        }
    }
}

/// A test for each stack, of the settings of its layer.
macro_rules! stacks {
    ($($name:ident $(($problems:literal))?: |$layer:ident| $stack:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let bench = Bench::new().await;
            let $layer = bench.layer();
            works(&bench, $stack, true $(&& $problems)?).await;
        }
    )*};
}

stacks! {
    a_router: |layer| routes().layer(problems(layer));
    a_router_with_tracing_outside: |layer| {
        routes().layer(problems(layer)).layer(TraceLayer::new_for_http())
    };
    a_router_with_tracing_inside: |layer| {
        routes().layer(TraceLayer::new_for_http()).layer(problems(layer))
    };
    a_router_with_compression_on_both_sides: |layer| {
        let inside = routes().layer(CompressionLayer::new()).layer(problems(layer));
        inside.layer(CompressionLayer::new())
    };
    a_nested_router: |layer| Router::new().merge(routes()).route_layer(problems(layer));
    a_service_builder_outside: |layer| {
        let stack = ServiceBuilder::new()
            .layer(TraceLayer::new_for_http())
            .layer(CorsLayer::permissive())
            .layer(CompressionLayer::new())
            .layer(ConcurrencyLimitLayer::new(8))
            .layer(problems(layer));
        routes().layer(stack)
    };
    a_service_builder_inside: |layer| {
        let stack = ServiceBuilder::new()
            .layer(problems(layer))
            .layer(MapResponseBodyLayer::new(Body::new))
            .layer(TraceLayer::new_for_http())
            .layer(CompressionLayer::new())
            .layer(ConcurrencyLimitLayer::new(8));
        routes().layer(stack)
    };
    compressed_bodies_without_a_mapping(false): |layer| {
        let auth = layer.build().unwrap();
        ServiceBuilder::new().layer(auth).layer(CompressionLayer::new()).service(routes())
    };
    a_hyper_service: |layer| problems(layer).layer(plain(|body| body));
    boxed_bodies: |layer| {
        let auth = layer.renderer(ProblemDetails::with(boxed)).build().unwrap();
        auth.layer(plain(boxed))
    };
    boxed_bodies_that_are_not_sync: |layer| {
        let auth = layer.renderer(ProblemDetails::with(unsync)).build().unwrap();
        auth.layer(plain(unsync))
    };
    boxed_bodies_without_problems(false): |layer| layer.build().unwrap().layer(plain(boxed));
    a_boxed_service_with_a_timeout: |layer| {
        let service = ServiceBuilder::new()
            .timeout(Duration::from_secs(60))
            .layer(problems(layer))
            .service(routes());
        BoxCloneSyncService::new(service)
    };
}

#[test]
fn bodies_of_compression_are_empty_by_default() {
    let empty: CompressionBody<Empty<Bytes>> = CompressionBody::default();
    assert!(http_body::Body::is_end_stream(&empty));
}
