//! The emulator's connections, and what goes wrong on them.

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
    answer::{Answer, given, refused, truncated},
    call::{decide, route},
    faults::Effect,
    shared::Shared,
};

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
    let Some((api, rest)) = route(&shared.service, head.uri.path()) else {
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
    let answer = decide(&shared.service, api, &rest, &head, body).await;
    // Who waits for a call to arrive may then change what it would be told: it is decided by now.
    shared.count(api);
    match effect {
        Some(Effect::Hang) => std::future::pending().await,
        Some(Effect::Reset) => {
            reset.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(Effect::Truncated) => {
            return Ok(truncated());
        }
        _ => {}
    }
    shared.released(api).await;
    Ok(answer)
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
