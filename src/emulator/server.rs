//! Connections of the emulator, and faults on them.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::{Request, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    call::{process, route},
    faults::Effect,
    response::{EmulatorResponse, refused, truncated, with_body},
    state::EmulatorState,
};

/// Accepts connections until the future is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<EmulatorState>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // An error concerns one connection (`ECONNABORTED`), or is temporary (`EMFILE`).
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        connections.spawn(connection(stream, shared.clone()));
    }
}

async fn connection(stream: TcpStream, shared: Arc<EmulatorState>) {
    // Responses are small, and clients wait for them.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let stream = ResettableStream { stream, reset: reset.clone() };
    let service = service_fn(move |request| respond(request, shared.clone(), reset.clone()));
    let server = auto::Builder::new(TokioExecutor::new());
    // An error means that the client disconnected.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<EmulatorState>,
    reset: Arc<AtomicBool>,
) -> io::Result<EmulatorResponse> {
    let (head, body) = request.into_parts();
    let Some((api, rest)) = route(&shared.service, head.uri.path()) else {
        return Ok(refused(StatusCode::NOT_FOUND, "A001203", "There is no such API."));
    };
    if !shared.latency.is_zero() {
        tokio::time::sleep(shared.latency).await;
    }
    // A statement of its own, so that the lock is not held across an await.
    let effect = shared.faults().take(api);
    match effect {
        Some(Effect::Respond { status, headers, body }) => {
            shared.count(api);
            let mut response = with_body(status, body);
            response.headers_mut().extend(headers);
            return Ok(response);
        }
        Some(Effect::Delay(delay)) => tokio::time::sleep(delay).await,
        _ => {}
    }
    let response = process(&shared.service, api, &rest, &head, body).await;
    // Counted after processing: `Emulator::arrived` promises that the response is determined.
    shared.count(api);
    match effect {
        Some(Effect::Hang) => std::future::pending().await,
        Some(Effect::Reset) => {
            reset.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(Effect::Truncated) => return Ok(truncated()),
        _ => {}
    }
    shared.released(api).await;
    Ok(response)
}

/// A connection that is reset instead of closed if `reset` is set.
struct ResettableStream {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for ResettableStream {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Without lingering, the kernel sends RST.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for ResettableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ResettableStream {
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
