//! Sockets: those that a service manager passed, and those that are bound here.
//!
//! Passed sockets are found by their address, and stay at hand while the process runs: a listener that a reload takes away and a later one brings back
//! finds its socket again, though the process may not bind its port.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

use crate::listeners::{ListenError, bind};

/// Why sockets that were passed can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// One is no TCP socket that listens.
    #[error("socket {name} of the service manager can't be used: {source}")]
    Unusable {
        /// Its name in `LISTEN_FDNAMES`, or its number.
        name: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// No listener of the configuration is at their addresses.
    #[error("the service manager passes sockets that the configuration has no listener for: {}", .0.join(", "))]
    Unclaimed(Vec<String>),
}

/// Sockets that a service manager passed (`sd_listen_fds(3)`).
#[derive(Debug, Default)]
pub struct Sockets(Vec<Passed>);

#[derive(Debug)]
struct Passed {
    name: String,
    address: SocketAddr,
    socket: TcpListener,
    claimed: bool,
}

impl Sockets {
    /// No sockets: everything is bound.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What the environment says was passed to this process; `names` is `LISTEN_FDNAMES`. Call it once, before there are other threads: the
    /// environment is changed, so that no child takes them for its own.
    ///
    /// # Errors
    /// Where one of them is no TCP socket.
    pub fn passed(names: &str) -> Result<Self, SocketsError> {
        let mut passed = ListenFd::from_env();
        let mut names = names.split(':');
        let mut sockets = Vec::new();
        for at in 0..passed.len() {
            let name = names.next().filter(|name| !name.is_empty()).map_or_else(|| (at + 1).to_string(), |name| format!("`{name}`"));
            let socket = passed.take_tcp_listener(at);
            let socket = socket.and_then(|socket| socket.ok_or_else(|| io::ErrorKind::NotFound.into()));
            let of = |socket: TcpListener| Ok((socket.local_addr()?, socket));
            let (address, socket) = socket.and_then(of).map_err(|source| SocketsError::Unusable { name: name.clone(), source })?;
            sockets.push(Passed { name, address, socket, claimed: false });
        }
        Ok(Self(sockets))
    }

    /// The same of sockets that are at hand.
    ///
    /// # Errors
    /// Where one has no address.
    pub fn of(sockets: Vec<TcpListener>) -> io::Result<Self> {
        let passed = |(at, socket): (usize, TcpListener)| {
            Ok(Passed { name: (at + 1).to_string(), address: socket.local_addr()?, socket, claimed: false })
        };
        sockets.into_iter().enumerate().map(passed).collect::<io::Result<_>>().map(Self)
    }

    /// The socket for `address`: one that was passed, or a new one.
    pub(super) fn take(&mut self, address: SocketAddr) -> Result<TcpListener, ListenError> {
        match self.0.iter_mut().find(|passed| passed.address == address) {
            Some(passed) => {
                passed.claimed = true;
                passed.socket.try_clone().map_err(|source| ListenError::Bind { address, source })
            }
            None => bind(address),
        }
    }

    /// Whether every socket that was passed has its listener.
    pub(super) fn are_claimed(&self) -> Result<(), SocketsError> {
        let left = self.0.iter().filter(|passed| !passed.claimed);
        let left: Vec<String> = left.map(|passed| format!("{} at {}", passed.name, passed.address)).collect();
        if left.is_empty() { Ok(()) } else { Err(SocketsError::Unclaimed(left)) }
    }
}
