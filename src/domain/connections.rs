//! What listeners tell of connections and of their files, for the record.

/// Why a connection was closed before it carried a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnedAway {
    /// The listener holds `max_connections` already.
    Full,
    /// The address has `max_connections_per_address` already.
    AddressFull,
    /// The listener speaks the PROXY protocol, and the peer is none of those that it is believed from.
    NotAProxy,
    /// No PROXY header of version 2, or not in time.
    ProxyHeader,
    /// No TLS handshake, or not in time.
    Handshake,
    /// The system gave no socket for it: most often, the process has all the open files that it may have.
    NoSocket,
    /// It ended, or time was up, before its first byte: load balancers look in so.
    Silent,
}

impl TurnedAway {
    /// Every cause.
    pub const ALL: [Self; 7] =
        [Self::Full, Self::AddressFull, Self::NotAProxy, Self::ProxyHeader, Self::Handshake, Self::NoSocket, Self::Silent];

    /// The label in `tollgate_client_connections_turned_away_total{reason}`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address_full",
            Self::NotAProxy => "not_a_proxy",
            Self::ProxyHeader => "proxy_header",
            Self::Handshake => "handshake",
            Self::NoSocket => "no_socket",
            Self::Silent => "silent",
        }
    }
}

/// What became of certificate files that have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reread {
    /// They are in use.
    Taken,
    /// They can't be used: what was good before is kept.
    Kept,
}

impl Reread {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Taken, Self::Kept];

    /// The label in `tollgate_certificate_reloads_total{outcome}`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Kept => "kept_old",
        }
    }
}
