use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    select,
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::port::Port;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Towards {
    Server,
    Client,
}

/// What goes wrong in one direction, on all connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// What is sent waits until the fault ends; so does the end of a connection. The connections stay open.
    Hold,
    /// What is sent is lost, but the end of a connection waits.
    Swallow,
    /// What is sent arrives later by this; so does the end of a connection.
    Delay(Duration),
    /// The receiver sees the end of the stream, also after the fault has ended.
    HalfClose,
}

/// A TCP proxy in front of a port of the loopback interface. It takes connections while nobody listens there,
/// and resets them.
pub(crate) struct Proxy {
    port: Arc<Port>,
    state: watch::Sender<State>,
    listens: watch::Receiver<bool>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    refuses: bool,
    server: Option<Fault>,
    client: Option<Fault>,
    resets: u64,
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Self {
        Self::reserve().forward_to(target).await
    }

    /// Refuses connections until it is told where they go.
    pub(crate) fn reserve() -> Self {
        let port = Arc::new(Port::reserve());
        Self {
            port,
            state: watch::Sender::default(),
            listens: watch::channel(false).1,
            accepting: None,
        }
    }

    pub(crate) async fn forward_to(mut self, target: u16) -> Self {
        let (sender, mut listens) = watch::channel(false);
        let accepting = accept(self.port.clone(), target, self.state.subscribe(), sender);
        self.accepting = Some(tokio::spawn(accepting));
        listens.wait_for(|it| *it).await.unwrap();
        self.listens = listens;
        self
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// For what is sent from now on; it takes the place of the direction's fault until now.
    pub(crate) fn fault(&self, towards: Towards, fault: Fault) {
        self.state.send_modify(|state| *state.of_mut(towards) = Some(fault));
    }

    /// Cuts the link: both directions are held, also on new connections.
    pub(crate) fn cut(&self) {
        self.fault(Towards::Server, Fault::Hold);
        self.fault(Towards::Client, Fault::Hold);
    }

    /// Resets (RST) both ends of all connections. New ones are accepted.
    pub(crate) fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// Refuses new connections. Those that are open stay as they are.
    pub(crate) async fn refuse(&self) {
        self.state.send_modify(|state| state.refuses = true);
        self.listens.clone().wait_for(|it| !*it).await.unwrap();
    }

    /// Ends all faults.
    pub(crate) async fn heal(&self) {
        self.state.send_modify(|state| {
            let resets = state.resets;
            *state = State { resets, ..State::default() };
        });
        self.listens.clone().wait_for(|it| *it).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

impl State {
    fn of_mut(&mut self, towards: Towards) -> &mut Option<Fault> {
        match towards {
            Towards::Server => &mut self.server,
            Towards::Client => &mut self.client,
        }
    }

    fn of(&self, towards: Towards) -> Option<Fault> {
        match towards {
            Towards::Server => self.server,
            Towards::Client => self.client,
        }
    }
}

type Faults = watch::Receiver<State>;

/// Never returns once the proxy is dropped, which ends the task.
async fn until(faults: &mut Faults, is: impl Fn(&State) -> bool) {
    if faults.wait_for(is).await.is_err() {
        std::future::pending().await
    }
}

async fn changed(faults: &mut Faults) {
    if faults.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Ends, with all connections, when its task is aborted.
async fn accept(port: Arc<Port>, target: u16, faults: Faults, listens: watch::Sender<bool>) {
    let mut refuses = faults.clone();
    let mut connections = JoinSet::new();
    loop {
        let listener = TcpListener::bind(port.address()).await.unwrap();
        listens.send_replace(true);
        loop {
            select! {
                biased;
                () = until(&mut refuses, |it| it.refuses) => break,
                accepted = listener.accept() => {
                    let Ok((client, _)) = accepted else { continue };
                    connections.spawn(connection(client, target, faults.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        listens.send_replace(false);
        until(&mut refuses, |it| !it.refuses).await;
    }
}

async fn connection(mut client: TcpStream, target: u16, mut faults: Faults) {
    let resets = faults.borrow().resets;
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let was_reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = Pump { towards: Towards::Server, faults: faults.clone(), open: true };
        let responses = Pump { towards: Towards::Client, faults: faults.clone(), open: true };
        let both = async {
            let requests = requests.run(from_client, to_server);
            tokio::try_join!(requests, responses.run(from_server, to_client))
        };
        select! {
            ended = both => ended.is_err(),
            () = until(&mut faults, |it| it.resets != resets) => true,
        }
    };
    if was_reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

type Read = (Instant, io::Result<Vec<u8>>);

/// One direction of a connection.
struct Pump {
    towards: Towards,
    faults: Faults,
    open: bool,
}

impl Pump {
    /// Until the sender's end of the stream was passed on. An error is a reset by the sender.
    async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel(64);
        let ((), ended) = tokio::join!(read(from, sender), self.write(receiver, to));
        ended
    }

    async fn write(
        mut self,
        mut queue: mpsc::Receiver<Read>,
        mut to: WriteHalf<'_>,
    ) -> io::Result<()> {
        loop {
            let next = select! {
                biased;
                () = self.half_close() => {
                    let _ = to.shutdown().await;
                    self.open = false;
                    continue;
                }
                next = queue.recv() => next,
            };
            let Some((at, read)) = next else { return Ok(()) };
            let passes = self.passes(at).await;
            match read {
                Ok(bytes) if !bytes.is_empty() => {
                    if passes && self.open {
                        // A receiver that is gone is told to the sender by the other direction.
                        self.open = to.write_all(&bytes).await.is_ok();
                    }
                }
                end => {
                    self.ends().await;
                    let _ = to.shutdown().await;
                    return end.map(drop);
                }
            }
        }
    }

    /// Once, when the direction is half-closed.
    async fn half_close(&mut self) {
        let towards = self.towards;
        if self.open {
            until(&mut self.faults, |it| it.of(towards) == Some(Fault::HalfClose)).await;
        } else {
            std::future::pending().await
        }
    }

    /// Whether what was read at this time goes on, told when it does.
    async fn passes(&mut self, at: Instant) -> bool {
        loop {
            let fault = self.faults.borrow_and_update().of(self.towards);
            let time = match fault {
                None => return true,
                Some(Fault::Swallow | Fault::HalfClose) => return false,
                Some(Fault::Delay(by)) => Some(at + by),
                Some(Fault::Hold) => None,
            };
            select! {
                () = elapse(time) => return true,
                () = changed(&mut self.faults) => {}
            }
        }
    }

    /// Returns when the end of the stream may go on.
    async fn ends(&mut self) {
        let towards = self.towards;
        let lost = |it: &State| matches!(it.of(towards), Some(Fault::Hold | Fault::Swallow));
        until(&mut self.faults, |it| !lost(it)).await;
    }
}

async fn elapse(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Reads on while what was read waits, and tells the end of the stream by an empty read.
async fn read(mut from: ReadHalf<'_>, queue: mpsc::Sender<Read>) {
    loop {
        let mut bytes = Vec::with_capacity(16 * 1024);
        let read = from.read_buf(&mut bytes).await.map(|_| bytes);
        let ended = read.as_ref().map_or(true, Vec::is_empty);
        if queue.send((Instant::now(), read)).await.is_err() || ended {
            return;
        }
    }
}
