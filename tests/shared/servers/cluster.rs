use super::{Port, Redis, eventually};

const SLOTS: u16 = 16384;

/// A cluster of three masters without replicas.
pub(crate) struct Cluster {
    pub(crate) masters: Vec<Redis>,
    /// Where the masters talk to each other.
    _buses: Vec<Port>,
}

impl Cluster {
    pub(crate) async fn start() -> Option<Self> {
        let buses: Vec<_> = (0..3).map(|_| Port::reserve()).collect();
        let mut masters = vec![];
        for bus in &buses {
            masters.push(master(bus).await?);
        }
        for (index, master) in (0..).zip(&masters) {
            let [from, to] = [index, index + 1].map(|it| SLOTS / 3 * it);
            let to = if index == 2 { SLOTS } else { to } - 1;
            let (from, to) = (from.to_string(), to.to_string());
            master.cli::<()>(["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await.unwrap();
            // Epochs that differ from the start, or the masters agree on them one after another.
            let epoch = (index + 1).to_string();
            master.cli::<()>(["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await.unwrap();
        }
        for (bus, master) in buses.iter().zip(&masters).skip(1) {
            let (port, bus) = (master.port().to_string(), bus.number().to_string());
            masters[0].cli::<()>(["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await.unwrap();
        }
        let cluster = Self { masters, _buses: buses };
        cluster.is_ok().await;
        Some(cluster)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.masters.iter().map(|it| it.url().to_owned()).collect()
    }

    /// Returns when all masters that answer find that all slots are served by masters that answer.
    pub(crate) async fn is_ok(&self) {
        for master in &self.masters {
            eventually(async || {
                let told = master.cli::<String>(["CLUSTER", "INFO"]).await;
                let told = told.map_err(|error| error.to_string())?;
                let ok = ["cluster_state:ok", "cluster_known_nodes:3"];
                if ok.iter().all(|it| told.contains(it)) { Ok(()) } else { Err(told) }
            })
            .await;
        }
    }
}

async fn master(bus: &Port) -> Option<Redis> {
    let port = bus.number().to_string();
    let arguments = ["--cluster-enabled", "yes", "--cluster-port", &port];
    Redis::with(arguments).with(["--cluster-node-timeout", "1000"]).start().await
}
