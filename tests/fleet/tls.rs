//! Connections to Redis by TLS.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tower_authlete::fleet::{Fleet, FleetBuilder, FleetError};

use crate::{
    nodes::{Bench, OK, SECRET, UNAUTHORIZED},
    servers::{Port, Redis, eventually},
    sharing::is_shared,
};

/// A certificate of a client and its key, by this authority.
fn client(issuer: &CertifiedIssuer<'_, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["client".to_owned()]).unwrap();
    // OpenSSL finds a certificate self-signed whose name is that of its authority, as it is by default.
    params.distinguished_name.push(DnType::CommonName, "client");
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

async fn is_unreachable(fleet: FleetBuilder) {
    let error = fleet.secret(SECRET).connect().await.unwrap_err();
    assert!(matches!(error, FleetError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn nodes_share_by_tls_with_a_server_whose_authority_is_known() {
    let Some(redis) = Redis::with::<&str>([]).tls().start().await else { return };
    let bench = Bench::new().await;
    let fleet = || Fleet::redis(redis.url()).root_certificate_pem(redis.root().unwrap());
    let nodes = [bench.node_with(fleet(), |it| it).await, bench.node_with(fleet(), |it| it).await];
    let token = bench.token().await;
    assert_eq!(nodes[0].get(&token).await, OK);
    is_shared(&redis, 1).await;
    assert_eq!((nodes[1].get(&token).await, bench.checks()), (OK, 1));
    nodes[0].handle.revoke(&token).await.unwrap();
    nodes[1].answers(&token, UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_not_connected_to() {
    let Some(redis) = Redis::with::<&str>([]).tls().start().await else { return };
    is_unreachable(Fleet::redis(redis.url())).await;
    is_unreachable(Fleet::redis(redis.url()).root_certificate_pem(authority().pem())).await;
    let plain = redis.url().replace("rediss://", "redis://");
    is_unreachable(Fleet::redis(plain)).await;
}

#[tokio::test]
async fn a_client_proves_who_it_is() {
    let Some(redis) = Redis::with::<&str>([]).tls().start().await else { return };
    let (issuer, stranger) = (authority(), authority());
    let file = redis.folder().join("clients.pem");
    std::fs::write(&file, issuer.pem()).unwrap();
    let file = file.to_str().unwrap();
    redis.cli::<()>(["CONFIG", "SET", "tls-ca-cert-file", file]).await.unwrap();
    redis.cli::<()>(["CONFIG", "SET", "tls-auth-clients", "yes"]).await.unwrap();
    let fleet = || Fleet::redis(redis.url()).root_certificate_pem(redis.root().unwrap());
    is_unreachable(fleet()).await;
    let (chain, key) = client(&stranger);
    is_unreachable(fleet().client_certificate_pem(chain, key)).await;
    let (chain, key) = client(&issuer);
    fleet().client_certificate_pem(chain, key).secret(SECRET).connect().await.unwrap();
}

#[tokio::test]
async fn a_cluster_is_connected_to_by_tls() {
    let bus = Port::reserve();
    let port = bus.number().to_string();
    let options = Redis::with(["--cluster-enabled", "yes", "--cluster-port", &port]);
    // By which it announces the port of TLS. It has nobody to talk to.
    let options = options.with(["--tls-cluster", "yes", "--tls-ca-cert-file", "server.pem"]);
    let Some(redis) = options.tls().start().await else { return };
    redis.cli::<()>(["CONFIG", "SET", "cluster-announce-ip", "127.0.0.1"]).await.unwrap();
    redis.cli::<()>(["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
    eventually(async || {
        let told: String = redis.cli(["CLUSTER", "INFO"]).await.unwrap();
        if told.contains("cluster_state:ok") { Ok(()) } else { Err(told) }
    })
    .await;
    let bench = Bench::new().await;
    let root = redis.root().unwrap();
    let fleet = || Fleet::cluster([redis.url()]).root_certificate_pem(root);
    let nodes = [bench.node_with(fleet(), |it| it).await, bench.node_with(fleet(), |it| it).await];
    let token = bench.token().await;
    assert_eq!(nodes[0].get(&token).await, OK);
    is_shared(&redis, 1).await;
    assert_eq!((nodes[1].get(&token).await, bench.checks()), (OK, 1));
}

#[tokio::test]
async fn wrong_certificates_and_addresses_are_mistakes_at_build() {
    let (root, (chain, key)) = (authority().pem(), client(&authority()));
    let other = KeyPair::generate().unwrap().serialize_pem();
    let secure = || Fleet::redis("rediss://127.0.0.1");
    let cases = [
        (secure().root_certificate_pem("rubbish"), "fleet.root_certificate_pem"),
        (secure().root_certificate_pem(key.as_str()), "fleet.root_certificate_pem"),
        (secure().client_certificate_pem(&chain, "rubbish"), "fleet.client_certificate_pem"),
        (secure().client_certificate_pem(&chain, other), "fleet.client_certificate_pem"),
        (secure().client_certificate_pem("", key.as_str()), "fleet.client_certificate_pem"),
        (Fleet::redis("redis://127.0.0.1").root_certificate_pem(&root), "fleet.url"),
        (Fleet::redis("rediss://127.0.0.1/#insecure"), "fleet.url"),
        (Fleet::redis("127.0.0.1"), "fleet.url"),
        (Fleet::cluster(["rediss://127.0.0.1", "redis://127.0.0.2"]), "fleet.url"),
        (Fleet::sentinel(["redis://127.0.0.1", "rediss://127.0.0.2"], "it"), "fleet.url"),
        (Fleet::cluster::<String>([]), "fleet.url"),
    ];
    for (index, (fleet, setting)) in cases.into_iter().enumerate() {
        let error = fleet.secret(SECRET).connect_lazily().unwrap_err();
        assert!(error.iter().map(|it| it.setting()).eq([setting]), "{index}: {error}");
        let shown = error.to_string();
        assert!(!shown.contains("rubbish") && !shown.contains("KEY"), "{shown}");
    }
    let all = secure().root_certificate_pem(root).client_certificate_pem(chain, key);
    assert!(all.secret(SECRET).connect_lazily().is_ok());
}
