//! The layer with problem details, in tonic's stack: gRPC is refused by trailers, other requests by a body.

use std::convert::Infallible;

use grpc_example::proto::reports_server::SERVICE_NAME;
use tonic::{
    body::Body,
    codegen::http::{Request, Response, StatusCode, Version},
    server::NamedService,
    service::Routes,
};
use tower_authlete::{AuthLayer, ProblemDetails, Rejection, emulator::Emulator};
use tower_layer::Layer;
use tower_service::Service;

/// A service of tonic's kind, which refuses as a handler does.
#[derive(Clone)]
struct Refusing;

impl NamedService for Refusing {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<Request<Body>> for Refusing {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Rejection::forbidden("by the handler").into()))
    }
}

#[tokio::test]
async fn bodies_of_tonic_have_problem_details() {
    let emulator = Emulator::start().await;
    let problems = ProblemDetails::with(Body::new);
    let auth = AuthLayer::builder(emulator.authlete()).renderer(problems).build().unwrap();
    let mut service = auth.layer(Routes::new(Refusing).prepare());
    let token = emulator.token().issue().await;
    for (token, content_type, status, grpc_status, length) in [
        ("rubbish", "application/grpc", StatusCode::OK, "16", 0..1),
        ("rubbish", "application/json", StatusCode::UNAUTHORIZED, "", 50..500),
        (&token, "application/json", StatusCode::FORBIDDEN, "", 50..500),
    ] {
        let request = Request::post(format!("http://localhost/{SERVICE_NAME}/Read"))
            .version(Version::HTTP_2)
            .header("content-type", content_type)
            .header("authorization", format!("Bearer {token}"));
        let response = service.call(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status);
        let header = response.headers().get("grpc-status");
        assert_eq!(header.map_or("", |value| value.to_str().unwrap()), grpc_status);
        let body = whole(response.into_body()).await;
        assert!(length.contains(&body.len()), "{}", String::from_utf8_lossy(&body));
    }
}

async fn whole(mut body: Body) -> Vec<u8> {
    use tonic::codegen::Body as _;
    let mut bytes = Vec::new();
    let mut body = std::pin::Pin::new(&mut body);
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        bytes.extend(frame.unwrap().into_data().unwrap_or_default());
    }
    bytes
}
