//! The emulator's HTTP side: connections, authentication of callers, and which API is called.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use headers::{
    Authorization, HeaderMapExt,
    authorization::{Basic, Bearer},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
    request::Parts,
};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    Shared,
    faults::{Api, Effect},
    service::Refused,
};
use crate::api::ApiVersion;

/// The largest request that is read.
const MAX_REQUEST: usize = 1024 * 1024;

type Answer = Response<Either<Full<Bytes>, Truncated>>;

/// Accepts connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // An error is of one connection only (`ECONNABORTED`), or will pass (`EMFILE`).
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        connections.spawn(connection(stream, shared.clone()));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Answers are small and are waited for.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let stream = Stream { stream, reset: reset.clone() };
    let service = service_fn(move |request| answer(request, shared.clone(), reset.clone()));
    let server = auto::Builder::new(TokioExecutor::new());
    // A client that breaks off is no matter of ours.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
) -> io::Result<Answer> {
    let (head, body) = request.into_parts();
    let Some((api, rest)) = shared.route(head.uri.path()) else {
        return Ok(refused(StatusCode::NOT_FOUND, "A001203", "There is no such API."));
    };
    if !shared.latency.is_zero() {
        tokio::time::sleep(shared.latency).await;
    }
    // Looked up in a statement of its own, so that no lock is held while the fault takes its time.
    let effect = shared.faults().strike(api);
    match effect {
        Some(Effect::Answer { status, headers, body }) => {
            shared.count(api);
            let mut answer = given(status, body);
            answer.headers_mut().extend(headers);
            return Ok(answer);
        }
        Some(Effect::Delay(delay)) => tokio::time::sleep(delay).await,
        _ => {}
    }
    let answer = decide(&shared, api, &rest, &head, body).await;
    // Who waits for a call to arrive may then change what it would be told: it is decided by now.
    shared.count(api);
    match effect {
        Some(Effect::Hang) => std::future::pending().await,
        Some(Effect::Reset) => {
            reset.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(Effect::Truncated) => {
            return Ok(json(StatusCode::OK).map(|()| Either::Right(Truncated(0))));
        }
        _ => {}
    }
    shared.released(api).await;
    Ok(answer)
}

/// The answer to a call with which nothing is to go wrong.
async fn decide(shared: &Shared, api: Api, rest: &str, head: &Parts, body: Incoming) -> Answer {
    if let Some(unauthorized) = shared.refuse_caller(head.uri.path(), &head.headers) {
        return unauthorized;
    }
    let expected = match api {
        Api::TokenDelete => Method::DELETE,
        Api::TokenList => Method::GET,
        _ => Method::POST,
    };
    if head.method != expected {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "A001204", "The method is wrong.");
    }
    let Ok(body) = Limited::new(body, MAX_REQUEST).collect().await else {
        return refused(StatusCode::BAD_REQUEST, "A001205", "The body cannot be read.");
    };
    let query = head.uri.query().unwrap_or_default();
    let is_form = is_form(&head.headers);
    Call { api, rest, query, is_form, body: body.to_bytes() }.dispatch(shared)
}

/// A call whose caller is known.
struct Call<'c> {
    api: Api,
    /// What follows the path of the API.
    rest: &'c str,
    query: &'c str,
    is_form: bool,
    body: Bytes,
}

impl Call<'_> {
    fn dispatch(&self, shared: &Shared) -> Answer {
        let service = &shared.service;
        match self.api {
            Api::Introspection => self.post(|request| service.introspection(request)),
            Api::Token => self.post(|request| service.token(request)),
            Api::TokenIssue => self.post(|request| service.issue(request)),
            Api::TokenFail => self.post(|request| service.fail(request)),
            Api::TokenCreate => self.post(|request| service.create(request)),
            Api::TokenUpdate => self.post(|request| service.update(request)),
            Api::Revocation => self.post(|request| service.revocation(request)),
            Api::TokenRevoke => self.read().map_or_else(undecodable, |request| {
                service.revoke(&request).map_or_else(denied, |response| good(&response))
            }),
            Api::TokenList => serde_html_form::from_str(self.query).map_or_else(
                |_| undecodable(()),
                |request| service.list(&request).map_or_else(denied, |response| good(&response)),
            ),
            Api::TokenDelete => service.delete(self.rest).map_or_else(denied, |()| no_content()),
        }
    }

    fn post<Q: DeserializeOwned, A: Serialize>(&self, answer: impl FnOnce(&Q) -> A) -> Answer {
        self.read().map_or_else(undecodable, |request| good(&answer(&request)))
    }

    fn read_json<Q: DeserializeOwned>(&self) -> serde_json::Result<Q> {
        if self.api != Api::Token {
            return serde_json::from_slice(&self.body);
        }
        // Documented as the text of a JSON array; Authlete's own SDK sends the array.
        let mut json: Value = serde_json::from_slice(&self.body)?;
        if let Some(list @ Value::Array(_)) = json.get_mut("properties") {
            *list = list.to_string().into();
        }
        serde_json::from_value(json)
    }

    fn read<Q: DeserializeOwned>(&self) -> Result<Q, ()> {
        if !self.is_form {
            return self.read_json().map_err(drop);
        }
        let pairs: Vec<(String, String)> = serde_html_form::from_bytes(&self.body).map_err(drop)?;
        // Extra properties travel in JSON only, except as the text that `/auth/token` takes.
        let pairs =
            pairs.into_iter().filter(|(key, _)| key != "properties" || self.api == Api::Token);
        let pairs: Vec<_> = pairs.flat_map(|(key, value)| split(key, value)).collect();
        let form = serde_html_form::to_string(pairs).map_err(drop)?;
        serde_html_form::from_str(&form).map_err(drop)
    }
}

/// In forms, lists are texts separated by spaces.
fn split(key: String, value: String) -> Vec<(String, String)> {
    match key.as_str() {
        "scopes" | "resources" | "acrValues" | "requiredComponents" => {
            value.split_whitespace().map(|item| (key.clone(), item.to_owned())).collect()
        }
        _ => vec![(key, value)],
    }
}

impl Shared {
    fn count(&self, api: Api) {
        self.calls[api as usize].send_modify(|calls| *calls += 1);
    }

    /// The API that a path names, and what follows its path.
    fn route(&self, path: &str) -> Option<(Api, String)> {
        let path = path.strip_prefix("/api")?;
        let path = match self.service.version {
            ApiVersion::V3 => {
                let rest = path.strip_prefix('/')?;
                &rest[rest.find('/')?..]
            }
            ApiVersion::V2 => path,
        };
        let delete =
            path.strip_prefix(Api::TokenDelete.path()).and_then(|rest| rest.strip_prefix('/'));
        if let Some(rest) = delete {
            return Some((Api::TokenDelete, percent_decode_str(rest).decode_utf8_lossy().into()));
        }
        Api::ALL.into_iter().find(|api| api.path() == path).map(|api| (api, String::new()))
    }

    /// What a caller is told who is not the service.
    fn refuse_caller(&self, path: &str, headers: &HeaderMap) -> Option<Answer> {
        let service = &self.service;
        let (missing, known) = match service.version {
            ApiVersion::V3 => {
                let presented = headers.typed_get::<Authorization<Bearer>>();
                let known = presented.as_ref().is_some_and(|it| it.token() == service.access_token);
                (presented.is_none(), known)
            }
            ApiVersion::V2 => {
                let presented = headers.typed_get::<Authorization<Basic>>();
                let known = presented.as_ref().is_some_and(|it| {
                    it.username() == service.id && it.password() == service.api_secret
                });
                (presented.is_none(), known)
            }
        };
        if missing {
            let message = "The Authorization header is missing or malformed.";
            return Some(refused(StatusCode::UNAUTHORIZED, "A001202", message));
        }
        if !known {
            return Some(refused(
                StatusCode::UNAUTHORIZED,
                "A001206",
                "The credentials are wrong.",
            ));
        }
        let named = path.split('/').nth(2).unwrap_or_default();
        let named = percent_decode_str(named).decode_utf8_lossy();
        let foreign = service.version == ApiVersion::V3 && named != service.id.as_str();
        foreign.then(|| {
            let message = "The access token is not for this service.";
            refused(StatusCode::FORBIDDEN, "A001215", message)
        })
    }

    /// Waits until no hold is on the API.
    async fn released(&self, api: Api) {
        let holds: Vec<_> = self.holds().iter().filter(|(held, _)| *held == api).cloned().collect();
        for (_, mut hold) in holds {
            // A hold that is dropped is released too.
            let _ = hold.wait_for(|released| *released).await;
        }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")
}

fn json(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json;charset=UTF-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn given(status: StatusCode, body: Bytes) -> Answer {
    json(status).map(|()| Either::Left(Full::new(body)))
}

fn good(answer: &impl Serialize) -> Answer {
    match serde_json::to_vec(answer) {
        Ok(body) => given(StatusCode::OK, body.into()),
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "A001101", "The answer is no JSON."),
    }
}

fn no_content() -> Answer {
    given(StatusCode::NO_CONTENT, Bytes::new())
}

fn undecodable((): ()) -> Answer {
    refused(StatusCode::BAD_REQUEST, "A001207", "The request cannot be decoded.")
}

fn denied(refusal: Refused) -> Answer {
    refused(refusal.status, refusal.code, &refusal.message)
}

fn refused(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = json!({ "resultCode": code, "resultMessage": format!("[{code}] {message}") });
    given(status, body.to_string().into())
}

/// A body that breaks off in its middle.
struct Truncated(u8);

impl Body for Truncated {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0 += 1;
        Poll::Ready(Some(match self.0 {
            1 => Ok(Frame::data(Bytes::from_static(b"{\"action\":\"OK\","))),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }))
    }
}

/// A connection that is reset, rather than closed, if that is asked for.
struct Stream {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // With nothing left to linger for, the kernel sends RST.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
