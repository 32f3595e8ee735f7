use std::{net::TcpListener, path::Path};

use redis::{Client, RedisResult, TlsCertificates};
use tokio::net::{TcpSocket, TcpStream};

use crate::servers::{Port, Redis, eventually};

#[tokio::test]
async fn a_server_answers_and_forgets_when_it_is_killed() {
    let Some(redis) = Redis::start().await else { return };
    redis.cli::<()>(["SET", "key", "value"]).await.unwrap();
    let first = redis.id();
    redis.kill9();
    assert!(TcpStream::connect(("127.0.0.1", redis.port())).await.is_err());
    redis.restart().await;
    assert_ne!(redis.id(), first);
    assert_eq!(redis.cli::<Option<String>>(["GET", "key"]).await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_appends_to_a_file_remembers() {
    let Some(redis) = Redis::with::<&str>([]).append_only().start().await else { return };
    redis.cli::<()>(["SET", "key", "value"]).await.unwrap();
    redis.restart().await;
    assert_eq!(redis.cli::<String>(["GET", "key"]).await.unwrap(), "value");
}

#[tokio::test]
async fn a_paused_server_takes_connections_and_answers_when_it_is_resumed() {
    let Some(redis) = Redis::start().await else { return };
    redis.pause();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", redis.id())).unwrap();
    assert!(state.contains(") T "), "{state}");
    TcpStream::connect(("127.0.0.1", redis.port())).await.unwrap();
    let asked = redis.cli::<String>(["PING"]);
    tokio::pin!(asked);
    tokio::select! {
        biased;
        answer = &mut asked => panic!("{answer:?}"),
        () = tokio::task::yield_now() => {}
    }
    redis.resume();
    assert_eq!(asked.await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_server_ends_with_its_value_in_a_panic_too() {
    let Some(redis) = Redis::start().await else { return };
    let (id, folder) = (redis.id(), redis.folder().to_owned());
    redis.pause();
    let panics = tokio::spawn(async move {
        let _redis = redis;
        std::panic::resume_unwind(Box::new("a panic"));
    });
    assert!(panics.await.unwrap_err().is_panic());
    assert!(!Path::new(&format!("/proc/{id}")).exists());
    assert!(!folder.exists());
}

#[tokio::test]
async fn options_reach_the_server() {
    let options = Redis::with(["--maxmemory", "1"]).password("a password");
    let Some(redis) = options.start().await else { return };
    let full: RedisResult<()> = redis.cli(["SET", "key", "value"]).await;
    assert_eq!(full.unwrap_err().code(), Some("OOM"));
    let stranger = Client::open(("127.0.0.1", redis.port())).unwrap();
    let mut stranger = stranger.get_multiplexed_async_connection().await.unwrap();
    let refused: RedisResult<()> = redis::cmd("PING").query_async(&mut stranger).await;
    assert_eq!(refused.unwrap_err().code(), Some("NOAUTH"));
}

#[tokio::test]
async fn a_server_with_tls_is_known_by_its_root() {
    let Some(redis) = Redis::with::<&str>([]).tls().start().await else { return };
    let root_cert = redis.root().map(|it| it.as_bytes().to_vec());
    let tls = TlsCertificates { client_tls: None, root_cert };
    let client = Client::build_with_tls(redis.url(), tls).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let pong: String = redis::cmd("PING").query_async(&mut connection).await.unwrap();
    assert_eq!(pong, "PONG");
    let stranger = Client::open(redis.url()).unwrap();
    assert!(stranger.get_multiplexed_async_connection().await.is_err());
}

#[tokio::test]
async fn a_replica_follows_its_master() {
    let Some(master) = Redis::start().await else { return };
    master.cli::<()>(["SET", "key", "value"]).await.unwrap();
    let replica = Redis::with::<&str>([]).replica_of(master.port()).start().await.unwrap();
    let value = eventually(async || match replica.cli::<Option<String>>(["GET", "key"]).await {
        Ok(Some(value)) => Ok(value),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(value.await, "value");
}

#[tokio::test]
async fn a_server_is_started_while_time_is_paused() {
    tokio::time::pause();
    let Some(redis) = Redis::start().await else { return };
    let before = tokio::time::Instant::now();
    assert_eq!(redis.cli::<String>(["PING"]).await.unwrap(), "PONG");
    redis.restart().await;
    assert_eq!(tokio::time::Instant::now(), before);
}

#[tokio::test]
async fn a_port_is_kept_for_its_server() {
    let port = Port::reserve();
    assert_eq!(TcpListener::bind(port.address()).unwrap().local_addr().unwrap(), port.address());
    // That listener is gone, and the port is kept nevertheless from who does not ask to share it.
    let other = TcpSocket::new_v4().unwrap();
    assert!(other.bind(port.address()).is_err());
}
