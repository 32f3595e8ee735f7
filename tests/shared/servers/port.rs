use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of the loopback interface. For as long as this lives it is given to nobody else, also while no
/// server listens on it, and no connection that is opened starts from it.
pub(crate) struct Port {
    number: u16,
    _reserved: TcpSocket,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        // Linux lets another socket listen on a port that is bound only, if both have SO_REUSEADDR (`ip(7)`,
        // `socket(7)`), as servers do. It is set after the port was chosen, which therefore was unused.
        socket.set_reuseaddr(true).unwrap();
        let number = socket.local_addr().unwrap().port();
        Self { number, _reserved: socket }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
