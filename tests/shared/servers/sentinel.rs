use std::collections::HashMap;

use ::redis::InfoDict;

use super::{Proxy, Redis, eventually};

/// A master behind a [`Proxy`], its replica, and sentinels that elect the replica once most of them find that
/// the master does not answer. The replica and the sentinels reach the master by the proxy only, and name the
/// proxy's port to others as the master's.
pub(crate) struct Sentinel {
    pub(crate) master: Redis,
    pub(crate) replica: Redis,
    pub(crate) proxy: Proxy,
    sentinels: Vec<Redis>,
}

impl Sentinel {
    /// What the sentinels call the master.
    pub(crate) const NAME: &str = "fleet";

    /// One sentinel, or three.
    pub(crate) async fn start(sentinels: usize) -> Option<Self> {
        let (master, proxy) = Self::master().await?;
        let replica = Redis::with(["--repl-ping-replica-period", "1"]).replica_of(proxy.port());
        let mut all = Self { replica: replica.start().await?, master, proxy, sentinels: vec![] };
        all.replicates().await;
        for _ in 0..sentinels {
            all.sentinels.push(all.sentinel(sentinels).await?);
        }
        for sentinel in &all.sentinels {
            knows_all(sentinel, sentinels).await;
        }
        Some(all)
    }

    async fn master() -> Option<(Redis, Proxy)> {
        let proxy = Proxy::reserve();
        let announced = ["--replica-announce-port".to_owned(), proxy.port().to_string()];
        let master = Redis::with(announced).start().await?;
        let proxy = proxy.forward_to(master.port()).await;
        Some((master, proxy))
    }

    async fn sentinel(&self, of: usize) -> Option<Redis> {
        let (name, port, quorum) = (Self::NAME, self.proxy.port(), of / 2 + 1);
        let lines = [
            format!("sentinel monitor {name} 127.0.0.1 {port} {quorum}"),
            format!("sentinel down-after-milliseconds {name} 500"),
            format!("sentinel failover-timeout {name} 2000"),
        ];
        let sentinel = Redis::with::<&str>([]).sentinel(lines.join("\n")).start().await?;
        // Ten and two seconds otherwise: it looks more often at who is a replica, and tells others of itself.
        let quick = ["SENTINEL", "DEBUG", "info-period", "200", "publish-period", "200"];
        sentinel.cli::<()>(quick).await.unwrap();
        Some(sentinel)
    }

    /// The addresses of the sentinels.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(|it| it.url().to_owned()).collect()
    }

    /// Returns when the replica has what the master has written until now.
    pub(crate) async fn replicates(&self) {
        let written = info(&self.master).await.unwrap().get::<u64>("master_repl_offset");
        eventually(async || {
            let replica = info(&self.replica).await?;
            let read = replica.get::<u64>("slave_repl_offset");
            let up = replica.get::<String>("master_link_status").as_deref() == Some("up");
            if up && read >= written { Ok(()) } else { Err(format!("replicates not: {replica:?}")) }
        })
        .await;
    }

    /// Lets the sentinels change the roles of master and replica, and returns when both have changed.
    pub(crate) async fn failover(&self) {
        let elected = self.elected(&self.sentinels[0]).await.unwrap();
        let (old, new) = if elected == self.replica.port() {
            (&self.replica, &self.master)
        } else {
            (&self.master, &self.replica)
        };
        // Refused until the sentinel has asked the replica of its state.
        eventually(async || {
            let command = ["SENTINEL", "FAILOVER", Self::NAME];
            self.sentinels[0].cli::<()>(command).await.map_err(|error| error.to_string())
        })
        .await;
        self.elects(new).await;
        self.demotes(old).await;
    }

    /// Returns when all sentinels name this server as the master, and it is.
    pub(crate) async fn elects(&self, server: &Redis) {
        let port =
            if server.port() == self.master.port() { self.proxy.port() } else { server.port() };
        for sentinel in &self.sentinels {
            eventually(async || match self.elected(sentinel).await? {
                elected if elected == port => Ok(()),
                other => Err(format!("{other} is the master, not {port}")),
            })
            .await;
        }
        has_role(server, "master").await;
    }

    /// Returns when the server is a replica.
    pub(crate) async fn demotes(&self, server: &Redis) {
        has_role(server, "slave").await;
    }

    async fn elected(&self, sentinel: &Redis) -> Result<u16, String> {
        let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME];
        let answer = sentinel.cli::<(String, u16)>(command).await;
        Ok(answer.map_err(|error| error.to_string())?.1)
    }
}

async fn has_role(server: &Redis, role: &str) {
    eventually(async || {
        let info = info(server).await?;
        let found = info.get::<String>("role");
        if found.as_deref() == Some(role) { Ok(()) } else { Err(format!("no {role}: {info:?}")) }
    })
    .await;
}

async fn info(server: &Redis) -> Result<InfoDict, String> {
    server.cli(["INFO", "replication"]).await.map_err(|error| error.to_string())
}

/// Returns when the sentinel knows the replica and all other sentinels.
async fn knows_all(sentinel: &Redis, sentinels: usize) {
    let expected = ["1".to_owned(), (sentinels - 1).to_string()];
    eventually(async || {
        let asked = sentinel.cli(["SENTINEL", "MASTER", Sentinel::NAME]).await;
        let master: HashMap<String, String> = asked.map_err(|error| error.to_string())?;
        let known = ["num-slaves", "num-other-sentinels"].map(|it| master[it].clone());
        if known == expected { Ok(()) } else { Err(format!("replicas and sentinels: {known:?}")) }
    })
    .await;
}
