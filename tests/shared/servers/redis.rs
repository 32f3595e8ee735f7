use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::redis::{Client, Cmd, FromRedisValue, RedisResult, TlsCertificates};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::{blocking, child::Child, eventually, port::Port, programs};

/// For how long a command is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A `redis-server` of its own, which keeps nothing on disk unless its options say so.
pub(crate) struct Redis {
    program: PathBuf,
    arguments: Vec<String>,
    port: Port,
    folder: TempDir,
    url: String,
    /// As PEM.
    root: Option<String>,
    client: Client,
    child: Mutex<Child>,
}

#[derive(Default)]
pub(crate) struct Options {
    arguments: Vec<String>,
    password: Option<String>,
    tls: bool,
    /// The configuration file of a sentinel, without its port.
    sentinel: Option<String>,
}

impl Redis {
    /// `None` if the machine lacks the program: the test returns.
    pub(crate) async fn start() -> Option<Self> {
        Options::default().start().await
    }

    /// Arguments of the command line, such as `["--maxmemory", "2mb"]`.
    pub(crate) fn with<A: Into<String>>(arguments: impl IntoIterator<Item = A>) -> Options {
        Options::default().with(arguments)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// With its password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the authority that a server with TLS is known by, as PEM.
    pub(crate) fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// Its process id, another one after each `restart`.
    pub(crate) fn id(&self) -> u32 {
        self.child().id()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a command over a connection of its own, and waits some seconds at most.
    pub(crate) async fn cli<T>(
        &self,
        command: impl IntoIterator<Item: AsRef<[u8]>>,
    ) -> RedisResult<T>
    where
        T: FromRedisValue + Send + 'static,
    {
        let mut sent = Cmd::new();
        for argument in command {
            sent.arg(argument.as_ref());
        }
        let client = self.client.clone();
        blocking(move || ask(&client, &sent)).await
    }

    /// `SIGKILL`. It has ended when this returns.
    pub(crate) fn kill9(&self) {
        self.child().kill9();
    }

    /// Kills it if it runs, starts it on the same port and in the same folder, and waits until it answers.
    pub(crate) async fn restart(&self) {
        {
            let mut child = self.child();
            child.kill9();
            *child = spawn(&self.program, &self.arguments, self.folder.path());
        }
        self.answers().await;
    }

    /// `SIGSTOP`. It has stopped when this returns, and its connections stay open.
    pub(crate) fn pause(&self) {
        self.child().pause();
    }

    /// `SIGCONT`.
    pub(crate) fn resume(&self) {
        self.child().resume();
    }

    async fn answers(&self) {
        eventually(async || {
            let pong: RedisResult<String> = self.cli(["PING"]).await;
            let log = || fs::read_to_string(log(self.folder.path())).unwrap_or_default();
            pong.map_err(|error| format!("{error}; the log of the server:\n{}", log()))
        })
        .await;
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Options {
    pub(crate) fn with<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Keeps what is written in an append-only file, so that a restart finds it.
    pub(crate) fn append_only(self) -> Self {
        self.with(["--appendonly", "yes", "--appendfsync", "always"])
    }

    pub(crate) fn replica_of(self, port: u16) -> Self {
        self.with(["--replicaof".to_owned(), format!("127.0.0.1 {port}")])
    }

    pub(crate) fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.with(["--requirepass", password])
    }

    /// With a certificate for `127.0.0.1`, by an authority of its own: [`Redis::root`].
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// A `redis-sentinel` with these lines in its configuration.
    pub(super) fn sentinel(mut self, configuration: String) -> Self {
        self.sentinel = Some(configuration);
        self
    }

    pub(crate) async fn start(self) -> Option<Redis> {
        let name = if self.sentinel.is_some() { "redis-sentinel" } else { "redis-server" };
        let program = programs::find(name, name)?;
        let (port, folder) = (Port::reserve(), tempfile::tempdir().unwrap());
        let root = self.tls.then(|| certificate(folder.path()));
        let url = self.url(port.number());
        let client = client(&url, root.as_deref());
        let arguments = self.arguments(port.number(), folder.path());
        let child = Mutex::new(spawn(&program, &arguments, folder.path()));
        let started = Redis { program, arguments, port, folder, url, root, client, child };
        started.answers().await;
        Some(started)
    }

    fn url(&self, port: u16) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let password = self.password.as_ref().map(|it| format!(":{it}@")).unwrap_or_default();
        format!("{scheme}://{password}127.0.0.1:{port}/")
    }

    fn arguments(self, port: u16, folder: &Path) -> Vec<String> {
        if let Some(configuration) = self.sentinel {
            let file = folder.join("sentinel.conf");
            let lines = format!("port {port}\nbind 127.0.0.1\n{configuration}\n");
            fs::write(&file, lines).unwrap();
            return vec![file.to_str().unwrap().to_owned()];
        }
        let port = port.to_string();
        let ports = if self.tls { ["0", &*port] } else { [&*port, "0"] };
        let mut all = vec!["--port", ports[0], "--tls-port", ports[1], "--bind", "127.0.0.1"];
        all.extend(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        if self.tls {
            all.extend(["--tls-cert-file", "server.pem", "--tls-key-file", "server.key"]);
            all.extend(["--tls-auth-clients", "no"]);
        }
        all.into_iter().map(str::to_owned).chain(self.arguments).collect()
    }
}

fn spawn(program: &Path, arguments: &[impl AsRef<OsStr>], folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log(folder)).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    Child::spawn(&mut command)
}

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn client(url: &str, root: Option<&str>) -> Client {
    let Some(root) = root else { return Client::open(url).unwrap() };
    let root_cert = Some(root.as_bytes().to_vec());
    Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert }).unwrap()
}

/// Blocks.
fn ask<T: FromRedisValue>(client: &Client, command: &Cmd) -> RedisResult<T> {
    let mut connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    command.query(&mut connection)
}

/// Leaves certificate and key of a server in the folder; its issuer's certificate, as PEM.
fn certificate(folder: &Path) -> String {
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    issuer.pem()
}
