//! Connections to Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture,
    RedisResult, ScriptInvocation, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::SentinelClient,
};
use tokio::{runtime::Handle, sync::Mutex, time::timeout};

use crate::{
    clock::Clock,
    observe::{LogLimit, limited},
    resilience::{Breaker, CircuitBreaker},
};

/// How long a request waits for Redis.
pub(super) const CALL: Duration = Duration::from_millis(50);

/// How long a request waits that cannot do without, and any answer is waited for.
pub(super) const SLOW_CALL: Duration = Duration::from_millis(500);

/// How long a connection may take, with TLS and authentication.
const CONNECT: Duration = Duration::from_secs(1);

/// Where Redis is.
pub(super) enum Server {
    Single(Client),
    Sentinel(Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

impl Server {
    /// A new connection, whose answers take so long at most.
    pub(super) async fn connect(&self, response_timeout: Duration) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(response_timeout));
        let connect = async {
            Ok(match self {
                Self::Single(client) => {
                    let connect = client.get_multiplexed_async_connection_with_config(&config);
                    Connection::Direct(connect.await?)
                }
                Self::Sentinel(client) => {
                    let mut client = client.lock().await;
                    let connect = client.get_async_connection_with_config(&config);
                    Connection::Direct(connect.await?)
                }
                Self::Cluster(client) => {
                    let config = redis::cluster::ClusterConfig::new()
                        .set_connection_timeout(CONNECT)
                        .set_response_timeout(response_timeout);
                    let connect = client.get_async_connection_with_config(config);
                    Connection::Cluster(connect.await?)
                }
            })
        };
        // Sentinels and nodes of a cluster are asked one after the other.
        timeout(3 * CONNECT, connect).await.unwrap_or_else(|_| Err(late()))
    }

    /// Whether keys of different buckets can be in different places.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// A connection. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Direct(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Direct(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Direct(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Direct(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// The connection for all calls that requests wait for. It is made again in the background when it is lost; until
/// then, calls fail at once.
pub(super) struct Link {
    server: Arc<Server>,
    current: ArcSwapOption<Connection>,
    connecting: AtomicBool,
    breaker: CircuitBreaker,
    clock: Clock,
    log: LogLimit,
    runtime: Handle,
}

impl Link {
    /// Must be called within a tokio runtime.
    pub(super) fn new(server: Arc<Server>, clock: Clock) -> Arc<Self> {
        Self::on(server, clock, Handle::current())
    }

    fn on(server: Arc<Server>, clock: Clock, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            server,
            current: ArcSwapOption::empty(),
            connecting: AtomicBool::new(false),
            breaker: CircuitBreaker::new(Breaker::after(3), "Redis"),
            log: LogLimit::new(&clock),
            clock,
            runtime,
        })
    }

    /// Another connection to the same servers, for calls that others must not wait behind.
    #[cfg(feature = "dpop")]
    pub(super) fn another(&self) -> Arc<Self> {
        Self::on(self.server.clone(), self.clock.clone(), self.runtime.clone())
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    pub(super) fn log(&self) -> &LogLimit {
        &self.log
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Connects anew.
    pub(super) async fn connect(&self) -> RedisResult<()> {
        let connection = self.server.connect(SLOW_CALL).await?;
        self.current.store(Some(Arc::new(connection)));
        Ok(())
    }

    /// Redis has answered by other means.
    pub(super) fn answered(self: &Arc<Self>) {
        self.breaker.pass().report(None, self.clock.now_millis());
        if self.current.load().is_none() {
            self.reconnect();
        }
    }

    /// Calls a script, unless calls have failed one after another. Tells nothing if it fails.
    pub(super) async fn call<T: FromRedisValue>(
        self: &Arc<Self>,
        script: &ScriptInvocation<'_>,
    ) -> Option<T> {
        let call = |mut connection| async move { script.invoke_async(&mut connection).await };
        self.guarded(CALL, call).await
    }

    /// Asks on the connection, unless calls have failed one after another. Tells nothing if it fails.
    pub(super) async fn guarded<T, F: Future<Output = RedisResult<T>>>(
        self: &Arc<Self>,
        time: Duration,
        ask: impl FnOnce(Connection) -> F,
    ) -> Option<T> {
        let permit = self.breaker.enter(self.clock.now_millis()).ok()?;
        let answer = self.within(time, ask).await;
        if let Err(error) = &answer {
            let cause = error as &dyn std::error::Error;
            limited!(warn, self.log, error = cause, "Redis could not be asked");
        }
        permit.report(answer.is_err().then_some(Duration::ZERO), self.clock.now_millis());
        answer.ok()
    }

    /// Calls a script in any case.
    pub(super) async fn call_within<T: FromRedisValue>(
        self: &Arc<Self>,
        time: Duration,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        let call = |mut connection| async move { script.invoke_async(&mut connection).await };
        self.within(time, call).await
    }

    async fn within<T, F: Future<Output = RedisResult<T>>>(
        self: &Arc<Self>,
        time: Duration,
        ask: impl FnOnce(Connection) -> F,
    ) -> RedisResult<T> {
        let Some(current) = self.current.load_full() else {
            self.reconnect();
            return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
        };
        let call = ask((*current).clone());
        let answer = timeout(time, call).await.unwrap_or_else(|_| Err(late()));
        if answer.as_ref().is_err_and(ends_connection) {
            self.current.compare_and_swap(&current, None);
            self.reconnect();
        }
        answer
    }

    /// Connects in the background, unless that is under way.
    pub(super) fn reconnect(self: &Arc<Self>) {
        if self.connecting.swap(true, Ordering::AcqRel) {
            return;
        }
        let link = self.clone();
        self.runtime.spawn(async move {
            let connected = link.connect().await;
            link.connecting.store(false, Ordering::Release);
            if let Err(error) = connected {
                let cause = &error as &dyn std::error::Error;
                limited!(warn, link.log, error = cause, "Redis cannot be connected to");
            }
        });
    }
}

/// Whether a connection is given up after an error.
fn ends_connection(error: &RedisError) -> bool {
    // A server that was the master before a failover takes no writes.
    let read_only = error.code() == Some("READONLY")
        // Redis 6 tells it of a script in the text.
        || error.detail().is_some_and(|detail| detail.contains("READONLY"));
    error.is_io_error() || error.is_unrecoverable_error() || read_only
}
