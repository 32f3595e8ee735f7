//! A server in a thread of its own.

use std::{fs, net::SocketAddr, path::PathBuf, sync::mpsc, thread, time::Duration};

use axum::{Json, Router, serve::ListenerExt};
use core_affinity::CoreId;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{BoxError, contender::Answer, cores::stay_on};

/// What small APIs answer.
pub(crate) struct Report;

impl Answer for Report {
    type Response = Json<Value>;

    async fn answer() -> Self::Response {
        Json(json!({ "id": 42, "title": "a report", "pages": 3 }))
    }
}

/// A server of HTTP/1.1 and HTTP/2 on a port of its own, for as long as the program runs.
pub struct Server {
    pub address: SocketAddr,
    thread: PathBuf,
}

impl Server {
    /// # Errors
    /// If it cannot listen.
    pub fn start(router: Router, core: Option<CoreId>) -> Result<Self, BoxError> {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            stay_on(core);
            if let Err(error) = serve(router, &sender) {
                // Who waits for the address hears of it.
                let _ = sender.send(Err(error));
            }
        });
        let (address, thread) = receiver.recv()??;
        Ok(Self { address, thread })
    }

    /// How long its thread has been on a core; zero where that cannot be known.
    #[must_use]
    pub fn busy(&self) -> Duration {
        let told = fs::read_to_string(self.thread.join("schedstat")).unwrap_or_default();
        let nanoseconds = told.split(' ').next().and_then(|text| text.parse().ok());
        Duration::from_nanos(nanoseconds.unwrap_or_default())
    }
}

type Started = Result<(SocketAddr, PathBuf), BoxError>;

fn serve(router: Router, started: &mpsc::Sender<Started>) -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
        started.send(Ok((listener.local_addr()?, PathBuf::from("/proc").join(thread))))?;
        // A small answer that waits for another one would be what is measured.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        Ok(axum::serve(listener, router).await?)
    })
}
