//! `wrk` and `h2load`, which load servers.

use std::{io::ErrorKind, net::SocketAddr, process::Command};

use core_affinity::CoreId;

use crate::{BoxError, contender::PATH};

/// Connections of HTTP/1.1.
const CONNECTIONS: &str = "64";
/// Connections of HTTP/2, and streams on each.
const CLIENTS: &str = "8";
const STREAMS: &str = "8";

/// A program that loads a server.
#[derive(Clone, Copy)]
pub(crate) enum Tool {
    Wrk,
    H2load,
}

impl Tool {
    /// What it does, for who reads the figures.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Wrk => format!("HTTP/1.1, wrk -t1 -c{CONNECTIONS}"),
            Self::H2load => format!("HTTP/2, h2load -t1 -c{CLIENTS} -m{STREAMS}"),
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::H2load => "h2load",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::H2load => "nghttp2-client",
        }
    }

    /// Makes sure that it is there.
    pub(crate) fn check(self) -> Result<(), BoxError> {
        found("taskset", "util-linux")?;
        found(self.program(), self.package())
    }

    /// Requests a second, of so many seconds on a core.
    pub(crate) fn run(
        self,
        server: SocketAddr,
        token: &str,
        seconds: u32,
        core: Option<CoreId>,
    ) -> Result<f64, BoxError> {
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.id.to_string(), self.program()]);
                command
            }
            None => Command::new(self.program()),
        };
        match self {
            Self::Wrk => command.args(["-t1", "-c", CONNECTIONS, "-d", &seconds.to_string()]),
            Self::H2load => {
                command.args(["-t1", "-c", CLIENTS, "-m", STREAMS, "-D", &seconds.to_string()])
            }
        };
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
        let output = command.arg(format!("http://{server}{PATH}")).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = match self {
            Self::Wrk => of_wrk(&text),
            Self::H2load => of_h2load(&text),
        };
        let rate = rate.filter(|_| output.status.success());
        rate.ok_or_else(|| format!("{} did not get good answers: {text}", self.program()).into())
    }
}

fn found(program: &str, package: &str) -> Result<(), BoxError> {
    match Command::new(program).arg("--version").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("`{program}` is missing: install Debian's package {package}").into())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

/// Requests a second, unless one of them failed.
fn of_wrk(text: &str) -> Option<f64> {
    let failed = ["Non-2xx or 3xx responses", "Socket errors"];
    if failed.iter().any(|failed| text.contains(failed)) {
        return None;
    }
    text.lines().find_map(|line| line.strip_prefix("Requests/sec:"))?.trim().parse().ok()
}

/// Requests a second, unless one of them failed.
fn of_h2load(text: &str) -> Option<f64> {
    let codes = text.lines().find_map(|line| line.strip_prefix("status codes:"))?;
    if !codes.contains(", 0 3xx, 0 4xx, 0 5xx") {
        return None;
    }
    let finished = text.lines().find_map(|line| line.strip_prefix("finished in"))?;
    finished.split(',').nth(1)?.trim().strip_suffix(" req/s")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_failures_seen() {
        let good = "  100 requests in 1.00s\nRequests/sec:  90102.33\nTransfer/sec: 1MB\n";
        assert_eq!(of_wrk(good), Some(90102.33));
        assert_eq!(of_wrk(&format!("  Non-2xx or 3xx responses: 1\n{good}")), None);
        let good = "finished in 1.00s, 80123.00 req/s, 3.1MB/s\nrequests: 80123 total\n\
                    status codes: 80123 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(of_h2load(good), Some(80123.0));
        assert_eq!(of_h2load(&good.replace("0 4xx", "1 4xx")), None);
    }
}
