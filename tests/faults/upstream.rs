//! An Authlete that sends raw bytes, so that it can violate any protocol. Without a fault, its response is
//! valid. It counts calls.

use std::{
    future::pending,
    net,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

use crate::{
    certificates::Certificate,
    wire::{self, Frame},
};

/// A fault.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// No server listens.
    Refuses,
    /// The host in the URL of the call cannot be resolved.
    HasNoAddress,
    /// The connection is closed as soon as it is accepted.
    Closes,
    /// These bytes are sent instead of a TLS handshake, and the connection is closed.
    Greets(Vec<u8>),
    /// The connection is accepted, and nothing is sent, not even a TLS handshake.
    IsMute,
    /// The TLS handshake has this certificate.
    Shows(Certificate),
    /// A call is answered with these bytes, and the connection is closed.
    Says(Vec<u8>),
    /// A call is answered with these bytes, and the connection is left open.
    Stops(Vec<u8>),
    /// A call is answered with these bytes, and then a space each second.
    Drips(Vec<u8>),
    /// A call over HTTP/2 is answered with these bytes, made from the stream ID.
    Frames(fn(u32) -> Vec<u8>),
    /// The same, and the connection is closed.
    LastFrames(fn(u32) -> Vec<u8>),
    /// A call is answered with this status and the address of another server.
    Redirects(u16),
    /// The clock of the layer is this many minutes ahead of Authlete's.
    IsAhead(i16),
}

use Fault::*;

impl Fault {
    fn is_of_tls(&self) -> bool {
        matches!(self, Greets(_) | IsMute | Shows(_)) || self.is_of_http2()
    }

    fn is_of_http2(&self) -> bool {
        matches!(self, Frames(_) | LastFrames(_))
    }

    /// Whether the call ends only by a timeout.
    fn is_slow(&self) -> bool {
        matches!(self, IsMute | Stops(_) | Drips(_))
    }
}

pub(crate) struct Upstream {
    pub(crate) url: String,
    /// The fault that `begin_fault` injects.
    fault: Fault,
    state: Arc<State>,
    /// Another server. It must never get a connection.
    trap: net::TcpListener,
    /// Reserves the port while no server listens.
    spare: Option<TcpSocket>,
    listening: Option<JoinHandle<()>>,
}

struct State {
    tls: bool,
    protocol: &'static str,
    answer: String,
    /// The fault in force.
    fault: Mutex<Option<Fault>>,
    calls: AtomicUsize,
    struck: Notify,
}

impl Upstream {
    /// A server that sends this response until the fault begins.
    pub(crate) async fn start(answer: &str, fault: Fault) -> Self {
        let (socket, spare) = (reusable(), reusable());
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        spare.bind(address).unwrap();
        let state = State {
            tls: fault.is_of_tls(),
            protocol: if fault.is_of_http2() { "h2" } else { "http/1.1" },
            answer: answer.to_owned(),
            fault: Mutex::default(),
            calls: AtomicUsize::default(),
            struck: Notify::new(),
        };
        let scheme = if state.tls { "https" } else { "http" };
        let state = Arc::new(state);
        let listening = tokio::spawn(listen(socket.listen(16).unwrap(), state.clone()));
        Self {
            url: format!("{scheme}://{address}"),
            fault,
            state,
            trap: trap(),
            spare: Some(spare),
            listening: Some(listening),
        }
    }

    pub(crate) async fn begin_fault(&mut self) {
        let fault = match self.fault.clone() {
            Refuses => return self.stop_listening().await,
            Redirects(status) => Says(self.redirect(status)),
            fault => fault,
        };
        self.state.calls.store(0, Ordering::SeqCst);
        *self.state.fault.lock().unwrap() = Some(fault);
    }

    pub(crate) fn end_fault(&mut self) {
        self.state.calls.store(0, Ordering::SeqCst);
        *self.state.fault.lock().unwrap() = None;
        if self.listening.is_none() {
            let listener = self.spare.take().unwrap().listen(16).unwrap();
            self.listening = Some(tokio::spawn(listen(listener, self.state.clone())));
        }
    }

    async fn stop_listening(&mut self) {
        let listening = self.listening.take().unwrap();
        listening.abort();
        assert!(listening.await.unwrap_err().is_cancelled());
        self.state.calls.store(0, Ordering::SeqCst);
    }

    fn redirect(&self, status: u16) -> Vec<u8> {
        let trap = self.trap.local_addr().unwrap();
        wire::http(status, &[&format!("Location: http://{trap}/api/auth/introspection")], "")
    }

    /// How many calls arrived since the fault began or ended.
    pub(crate) fn calls(&self) -> usize {
        self.state.calls.load(Ordering::SeqCst)
    }

    /// Waits until a call has arrived that only a timeout ends.
    pub(crate) async fn struck(&self) {
        self.state.struck.notified().await;
    }

    /// Whether the other server got a connection.
    pub(crate) fn has_trapped(&self) -> bool {
        self.trap.accept().is_ok()
    }
}

/// A socket with `SO_REUSEPORT`.
fn reusable() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket
}

fn trap() -> net::TcpListener {
    let trap = net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    trap
}

async fn listen(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move { state.serve(stream).await });
    }
}

impl State {
    fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap().clone()
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    /// Serves a connection. `None` if it ends early.
    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut certificate = Certificate::Good;
        match self.fault() {
            Some(Closes) => {
                self.count();
                return None;
            }
            Some(Greets(bytes)) => {
                self.count();
                return stream.write_all(&bytes).await.ok();
            }
            Some(IsMute) => {
                self.count();
                self.struck.notify_one();
                pending().await
            }
            Some(Shows(wrong)) => {
                self.count();
                certificate = wrong;
            }
            _ => {}
        }
        if !self.tls {
            return self.serve_http1(stream).await;
        }
        let stream = certificate.acceptor(self.protocol).accept(stream).await.ok()?;
        match self.protocol {
            "h2" => self.serve_http2(stream).await,
            _ => self.serve_http1(stream).await,
        }
    }

    /// Each connection takes one call.
    async fn serve_http1(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        wire::read_request(&mut stream).await?;
        let fault = self.fault();
        let answer = match &fault {
            Some(Says(bytes) | Stops(bytes) | Drips(bytes)) => bytes,
            _ => &wire::http(200, &[], &self.answer),
        };
        self.count();
        stream.write_all(answer).await.ok()?;
        if fault.as_ref().is_some_and(Fault::is_slow) {
            self.struck.notify_one();
        }
        match fault {
            Some(Stops(_)) => pending().await,
            Some(Drips(_)) => drip(stream).await,
            _ => stream.shutdown().await.ok(),
        }
    }

    async fn serve_http2(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        stream.read_exact(&mut [0; wire::PREFACE.len()]).await.ok()?;
        stream.write_all(&wire::frame(wire::SETTINGS, 0, 0, &[])).await.ok()?;
        loop {
            let call = self.read_call(&mut stream).await?;
            let fault = self.fault();
            let answer = match &fault {
                Some(Frames(frames) | LastFrames(frames)) => frames(call),
                _ => wire::answer(call, &self.answer),
            };
            self.count();
            stream.write_all(&answer).await.ok()?;
            match fault {
                Some(LastFrames(_)) => return stream.shutdown().await.ok(),
                _ => stream.flush().await.ok()?,
            }
        }
    }

    /// The number of the next stream whose request is complete.
    async fn read_call(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<u32> {
        loop {
            let frame = Frame::read(stream).await?;
            match frame.kind {
                wire::SETTINGS if frame.flags & wire::ACK == 0 => {
                    let ack = wire::frame(wire::SETTINGS, wire::ACK, 0, &[]);
                    stream.write_all(&ack).await.ok()?;
                }
                wire::HEADERS | wire::DATA if frame.flags & wire::END_STREAM != 0 => {
                    return Some(frame.stream);
                }
                _ => {}
            }
        }
    }
}

/// Sends a space each second, in paused time.
async fn drip(mut stream: impl AsyncWrite + Unpin) -> Option<()> {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        stream.write_all(b" ").await.ok()?;
        stream.flush().await.ok()?;
    }
}
