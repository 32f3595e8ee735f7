//! Connections that are kept, and requests on them.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, Interval, interval_at},
};

use crate::{BoxError, server::PATH};

/// How many streams share a connection of HTTP/2.
const STREAMS: usize = 8;

/// A version of HTTP.
#[derive(Clone, Copy, PartialEq)]
pub enum Protocol {
    Http1,
    Http2,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

/// Sends one request after another.
pub enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    /// So many that work at once: each with a connection of its own (HTTP/1.1), or eight to one
    /// (HTTP/2).
    ///
    /// # Errors
    /// If a connection cannot be made.
    pub async fn open(
        server: SocketAddr,
        protocol: Protocol,
        many: usize,
    ) -> Result<Vec<Self>, BoxError> {
        let mut senders = Vec::new();
        while senders.len() < many {
            match protocol {
                Protocol::Http1 => senders.push(Self::Http1(connect1(server).await?)),
                Protocol::Http2 => {
                    let sender = connect2(server).await?;
                    let streams = STREAMS.min(many - senders.len());
                    senders.extend((0..streams).map(|_| Self::Http2(sender.clone())));
                }
            }
        }
        Ok(senders)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send(&mut self, request: Request<Empty<Bytes>>) -> Result<StatusCode, BoxError> {
        let response = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status)
    }
}

async fn stream(server: SocketAddr) -> Result<TokioIo<TcpStream>, BoxError> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

async fn connect1(server: SocketAddr) -> Result<http1::SendRequest<Empty<Bytes>>, BoxError> {
    let (sender, connection) = http1::handshake(stream(server).await?).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn connect2(server: SocketAddr) -> Result<http2::SendRequest<Empty<Bytes>>, BoxError> {
    let stream = stream(server).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A request with a token.
///
/// # Errors
/// If the token cannot stand in a header.
pub fn request(
    server: SocketAddr,
    protocol: Protocol,
    token: &str,
) -> Result<Request<Empty<Bytes>>, BoxError> {
    let request = Request::get(match protocol {
        Protocol::Http1 => PATH.to_owned(),
        Protocol::Http2 => format!("http://{server}{PATH}"),
    });
    let request = match protocol {
        Protocol::Http1 => request.header(header::HOST, server.to_string()),
        Protocol::Http2 => request.version(Version::HTTP_2),
    };
    let request = request.header(header::ACCEPT, "application/json");
    Ok(request.header(header::AUTHORIZATION, format!("Bearer {token}")).body(Empty::new())?)
}

/// Latencies, in nanoseconds.
pub type Latencies = Histogram<u64>;

/// No latency yet.
///
/// # Errors
/// Never: three digits are not too many.
pub fn latencies() -> Result<Latencies, BoxError> {
    Ok(Histogram::new(3)?)
}

/// A latency in microseconds that this share of requests did not exceed.
pub fn quantile(latencies: &Latencies, share: f64) -> f64 {
    latencies.value_at_quantile(share) as f64 / 1e3
}

/// Sends good requests for so long, each sender as soon as it is answered, or at this pace.
///
/// # Errors
/// If a request is refused or a connection breaks.
pub async fn load(
    senders: Vec<Sender>,
    request: Request<Empty<Bytes>>,
    time: Duration,
    pace: Option<Duration>,
) -> Result<Latencies, BoxError> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    let many = u32::try_from(senders.len())?;
    for (sender, turn) in senders.into_iter().zip(0..) {
        // Nobody waits for those who would come at the same time.
        let ticks = pace.map(|pace| interval_at(start + pace * turn / many, pace));
        tasks.spawn(send_until(start + time, sender, request.clone(), ticks));
    }
    let mut all = latencies()?;
    while let Some(latencies) = tasks.join_next().await {
        all.add(latencies??)?;
    }
    Ok(all)
}

async fn send_until(
    end: Instant,
    mut sender: Sender,
    request: Request<Empty<Bytes>>,
    mut ticks: Option<Interval>,
) -> Result<Latencies, BoxError> {
    let mut latencies = latencies()?;
    while Instant::now() < end {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let start = Instant::now();
        let status = sender.send(request.clone()).await?;
        if status != StatusCode::OK {
            return Err(format!("a good request was answered with {status}").into());
        }
        let latency = nanoseconds(start.elapsed());
        match &ticks {
            // What could not be sent meanwhile had to wait, too.
            Some(ticks) => latencies.record_correct(latency, nanoseconds(ticks.period()))?,
            None => latencies.record(latency)?,
        }
    }
    Ok(latencies)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
