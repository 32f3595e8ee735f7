use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use crate::servers::{Fault, Port, Proxy, Towards};

/// Both ends of connections through a proxy.
struct Link {
    listener: TcpListener,
    proxy: Proxy,
}

impl Link {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap().port()).await;
        Self { listener, proxy }
    }

    async fn client(&self) -> io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", self.proxy.port())).await
    }

    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = self.client().await.unwrap();
        (client, self.listener.accept().await.unwrap().0)
    }
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream, text: &str) {
    from.write_all(text.as_bytes()).await.unwrap();
    expect(to, text).await;
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut read = vec![0; text.len()];
    stream.read_exact(&mut read).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read), text);
}

#[track_caller]
fn nothing_arrived(at: &TcpStream) {
    let read = at.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(io::ErrorKind::WouldBlock));
}

async fn was_reset(mut stream: TcpStream) {
    let read = stream.read(&mut [0]).await.map_err(|error| error.kind());
    assert_eq!(read, Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn what_is_held_arrives_when_the_link_heals() {
    for (held, passing) in [(Towards::Server, Towards::Client), (Towards::Client, Towards::Server)]
    {
        let link = Link::start().await;
        let (client, server) = link.connect().await;
        let (mut from, mut to) =
            if held == Towards::Server { (client, server) } else { (server, client) };
        link.proxy.fault(held, Fault::Hold);
        from.write_all(b"held").await.unwrap();
        passes(&mut to, &mut from, "the other direction").await;
        nothing_arrived(&to);
        // Of the other direction.
        link.proxy.fault(passing, Fault::Hold);
        to.write_all(b"held, too").await.unwrap();
        link.proxy.heal().await;
        expect(&mut to, "held").await;
        expect(&mut from, "held, too").await;
    }
}

#[tokio::test]
async fn a_cut_link_holds_the_end_of_a_connection_and_new_ones() {
    let link = Link::start().await;
    let (client, mut server) = link.connect().await;
    link.proxy.cut();
    drop(client);
    let (mut other_client, mut other_server) = link.connect().await;
    other_client.write_all(b"later").await.unwrap();
    nothing_arrived(&server);
    nothing_arrived(&other_server);
    link.proxy.heal().await;
    expect(&mut other_server, "later").await;
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_swallowed_never_arrives() {
    const SENT: usize = 64 << 20;
    let link = Link::start().await;
    let (mut client, mut server) = link.connect().await;
    link.proxy.fault(Towards::Server, Fault::Swallow);
    // More than buffers on the way have room for.
    let sent = vec![0; SENT];
    tokio::select! {
        written = client.write_all(&sent) => written.unwrap(),
        _ = server.read_u8() => panic!("something arrived"),
    }
    passes(&mut server, &mut client, "the other direction").await;
    link.proxy.heal().await;
    client.write_all(b"after").await.unwrap();
    client.shutdown().await.unwrap();
    let mut arrived = vec![];
    server.read_to_end(&mut arrived).await.unwrap();
    assert!(arrived.len() < SENT && arrived.ends_with(b"after"), "{}", arrived.len());
}

#[tokio::test]
async fn the_end_of_a_stream_is_not_swallowed() {
    let link = Link::start().await;
    let (mut client, mut server) = link.connect().await;
    link.proxy.fault(Towards::Server, Fault::Swallow);
    client.shutdown().await.unwrap();
    passes(&mut server, &mut client, "the other direction").await;
    nothing_arrived(&server);
    link.proxy.heal().await;
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_delayed_arrives_later_by_that() {
    const HOUR: Duration = Duration::from_secs(3600);
    let link = Link::start().await;
    let (mut client, mut server) = link.connect().await;
    link.proxy.fault(Towards::Client, Fault::Delay(HOUR));
    let began = Instant::now();
    passes(&mut client, &mut server, "at once").await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    passes(&mut server, &mut client, "later").await;
    assert!(began.elapsed() >= HOUR);
}

#[tokio::test]
async fn a_reset_reaches_both_ends_of_open_connections() {
    let link = Link::start().await;
    let (mut client, mut server) = link.connect().await;
    passes(&mut client, &mut server, "before").await;
    link.proxy.reset();
    was_reset(client).await;
    was_reset(server).await;
    let (mut client, mut server) = link.connect().await;
    passes(&mut client, &mut server, "after").await;
}

#[tokio::test]
async fn a_reset_by_one_end_reaches_the_other() {
    let link = Link::start().await;
    let (client, server) = link.connect().await;
    server.set_zero_linger().unwrap();
    drop(server);
    was_reset(client).await;
}

#[tokio::test]
async fn a_half_closed_direction_ends_and_the_other_goes_on() {
    let link = Link::start().await;
    let (mut client, mut server) = link.connect().await;
    passes(&mut client, &mut server, "before").await;
    link.proxy.fault(Towards::Client, Fault::HalfClose);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    server.write_all(b"to nobody").await.unwrap();
    passes(&mut client, &mut server, "to the server").await;
    link.proxy.heal().await;
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn connections_are_refused_until_it_heals() {
    let link = Link::start().await;
    let (mut client, mut server) = link.connect().await;
    link.proxy.refuse().await;
    let refused = link.client().await.map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(io::ErrorKind::ConnectionRefused));
    passes(&mut client, &mut server, "an open connection").await;
    link.proxy.heal().await;
    let (mut client, mut server) = link.connect().await;
    passes(&mut server, &mut client, "a new one").await;
}

#[tokio::test]
async fn a_connection_to_nobody_is_reset() {
    let nobody = Port::reserve();
    let proxy = Proxy::start(nobody.number()).await;
    was_reset(TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap()).await;
}
