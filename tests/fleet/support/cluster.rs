use redis::{AsyncCommands, RedisResult, cluster::ClusterClient};

use crate::servers::Cluster;

#[tokio::test]
async fn three_masters_serve_all_slots() {
    let Some(cluster) = Cluster::start().await else { return };
    let client = ClusterClient::new(cluster.urls()).unwrap();
    let mut connection = client.get_async_connection().await.unwrap();
    for index in 0..64 {
        let () = connection.set(format!("key{index}"), index).await.unwrap();
    }
    for master in &cluster.masters {
        assert_ne!(master.cli::<usize>(["DBSIZE"]).await.unwrap(), 0);
        // Each knows that it serves a third only.
        let all: RedisResult<Vec<()>> = master.cli(["MGET", "key0", "key1", "key2", "key3"]).await;
        assert_eq!(all.unwrap_err().code(), Some("CROSSSLOT"));
    }
    cluster.masters[0].kill9();
    cluster.masters[0].restart().await;
    cluster.is_ok().await;
}
