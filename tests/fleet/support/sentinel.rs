use crate::servers::Sentinel;

#[tokio::test]
async fn sentinels_change_master_and_replica() {
    let Some(sentinel) = Sentinel::start(1).await else { return };
    sentinel.master.cli::<()>(["SET", "key", "before"]).await.unwrap();
    sentinel.replicates().await;
    sentinel.failover().await;
    let kept: String = sentinel.replica.cli(["GET", "key"]).await.unwrap();
    assert_eq!(kept, "before");
    sentinel.replica.cli::<()>(["SET", "key", "after"]).await.unwrap();
    let read_only = sentinel.master.cli::<()>(["SET", "key", "lost"]).await;
    assert_eq!(read_only.unwrap_err().code(), Some("READONLY"));
}

#[tokio::test]
async fn three_sentinels_elect_the_replica_of_a_master_that_was_killed() {
    let Some(sentinel) = Sentinel::start(3).await else { return };
    assert_eq!(sentinel.urls().len(), 3);
    sentinel.master.kill9();
    sentinel.elects(&sentinel.replica).await;
}

#[tokio::test]
async fn a_master_that_is_cut_off_is_another_one_than_the_sentinels() {
    let Some(sentinel) = Sentinel::start(1).await else { return };
    sentinel.proxy.cut();
    sentinel.master.cli::<()>(["SET", "key", "on the old master"]).await.unwrap();
    sentinel.elects(&sentinel.replica).await;
    assert_eq!(sentinel.replica.cli::<Option<String>>(["GET", "key"]).await.unwrap(), None);
    assert_eq!(sentinel.master.cli::<String>(["GET", "key"]).await.unwrap(), "on the old master");
    // The sentinel makes a replica of it, when it sees it again.
    sentinel.proxy.heal().await;
    sentinel.demotes(&sentinel.master).await;
}
