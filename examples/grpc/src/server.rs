//! The server: what a token has to be is said in three places, from the outside to the inside.

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    service::{LayerExt, interceptor::InterceptedService},
    transport::Server,
};
use tower_authlete::{AuthLayer, Require, TokenInfo};

use crate::proto::{
    ReadRequest, Receipt, Report,
    reports_server::{Reports, ReportsServer},
};

/// Serves until the listener fails.
///
/// # Errors
/// If it fails.
pub async fn serve(listener: TcpListener, auth: AuthLayer) -> Result<(), tonic::transport::Error> {
    // All of a service's methods take this scope.
    let reports = Require::scopes(["reports.read"]).named_layer(ReportsServer::new(Archive));
    // An interceptor goes around that: its responses have a body of another type.
    let reports = InterceptedService::new(reports, users_only);
    Server::builder()
        // Every method of every service takes a good token.
        .layer(auth)
        .add_service(reports)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
}

/// Who calls.
#[derive(Clone)]
struct Caller(String);

/// An interceptor: it sees what the layer knows of the token.
fn users_only(mut request: Request<()>) -> Result<Request<()>, Status> {
    let subject = token(&request)?.subject().map(Into::into);
    let subject = subject.ok_or_else(|| Status::permission_denied("reports are for users"))?;
    request.extensions_mut().insert(Caller(subject));
    Ok(request)
}

struct Archive;

#[tonic::async_trait]
impl Reports for Archive {
    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Report>, Status> {
        let plan = token(&request)?.properties().get("plan").unwrap_or("free").to_owned();
        let caller = caller(&request)?.0.clone();
        let name = request.into_inner().name;
        let text = format!("{name} for {caller}, on plan {plan}");
        Ok(Response::new(Report { name, text }))
    }

    async fn file(&self, request: Request<Report>) -> Result<Response<Receipt>, Status> {
        // One method may take more than its service does.
        if !token(&request)?.scopes().contains("reports.write") {
            return Err(Status::permission_denied("filing takes the scope reports.write"));
        }
        Ok(Response::new(Receipt { subject: caller(&request)?.0.clone() }))
    }
}

fn token<T>(request: &Request<T>) -> Result<&TokenInfo, Status> {
    request.extensions().get().ok_or_else(|| Status::internal("no AuthLayer is outside of this"))
}

fn caller<T>(request: &Request<T>) -> Result<&Caller, Status> {
    request.extensions().get().ok_or_else(|| Status::internal("no interceptor is outside of this"))
}
