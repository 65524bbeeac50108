//! The closed sets that labels are drawn from.

/// How a try to have a request answered upstream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// With an answer that is none of the next three.
    Answered,
    /// With an exception as the first event of a stream whose status was 200.
    Exception,
    /// With 429: AWS would not now.
    Throttled,
    /// With a status from 500 on.
    ServerError,
    /// No connection could be made.
    Unreachable,
    /// A connection that had been kept was dead: nothing of an answer was read from it.
    Stale,
    /// The connection broke, or the answer made no sense.
    Broken,
    /// No answer came in time.
    TimedOut,
    /// The client left before an answer.
    Abandoned,
}

impl Attempt {
    /// Every outcome.
    pub const ALL: [Self; 9] = [
        Self::Answered,
        Self::Exception,
        Self::Throttled,
        Self::ServerError,
        Self::Unreachable,
        Self::Stale,
        Self::Broken,
        Self::TimedOut,
        Self::Abandoned,
    ];

    /// The outcome of a try that was answered with `status`.
    #[must_use]
    pub const fn answered(status: u16) -> Self {
        match status {
            429 => Self::Throttled,
            500.. => Self::ServerError,
            _ => Self::Answered,
        }
    }

    /// The label in `tollgate_upstream_attempts_total{outcome}`, and the access log's word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Exception => "exception",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Unreachable => "unreachable",
            Self::Stale => "stale",
            Self::Broken => "broken",
            Self::TimedOut => "timed_out",
            Self::Abandoned => "abandoned",
        }
    }
}

/// How an attempt to have an issuer's keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyFetch {
    /// With a good set.
    Fresh,
    /// Without an answer, or with one of another status than 200.
    Unreachable,
    /// With an answer that can't be used.
    Unusable,
}

impl KeyFetch {
    /// The label in `tollgate_jwks_fetches_total{outcome}`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Unreachable => "unreachable",
            Self::Unusable => "unusable",
        }
    }
}

/// How a question to STS for a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StsCall {
    /// With a session.
    Granted,
    /// With a no.
    Refused,
    /// Without an answer, or with one that can't be used.
    Unreachable,
}

impl StsCall {
    /// The label in `tollgate_sts_calls_total{outcome}`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What became of a configuration that was to be served in place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reload {
    /// It is served.
    Applied,
    /// It says what the one before said; what it names was read anew.
    Unchanged,
    /// It can't be served, and the one before is.
    Refused,
}

impl Reload {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Refused];

    /// The label in `tollgate_config_reloads_total{outcome}`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// What became of an answer whose client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unheard {
    /// It ended with its client.
    Cancelled,
    /// It was read to its end.
    Drained,
}

impl Unheard {
    /// Both fates.
    pub const ALL: [Self; 2] = [Self::Cancelled, Self::Drained];

    /// The label in `tollgate_clients_left_total{answer}`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Drained => "drained",
        }
    }
}

/// What became of a call that was to be mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mirrored {
    /// Its copy was answered with 2xx, and the answer came to its end.
    Answered,
    /// Its copy was not: it got another status, an exception, no answer, or none that came to its end.
    Failed,
    /// No copy was sent: its caller may not go there, or an operator stopped what it would have been of.
    NotAllowed,
    /// No copy was sent: as many as may be were under way, there was no memory for its body, its account had none left of its quota, or its upstream is left
    /// alone.
    NoRoom,
    /// An operator's stop, or the end of the gateway, ended it before it was answered, or kept it from being sent.
    Ended,
}

impl Mirrored {
    /// Every outcome.
    pub const ALL: [Self; 5] = [Self::Answered, Self::Failed, Self::NotAllowed, Self::NoRoom, Self::Ended];

    /// The label in `tollgate_mirrored_total{outcome}`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::NotAllowed => "not_allowed",
            Self::NoRoom => "no_room",
            Self::Ended => "ended",
        }
    }
}

/// Where an upstream connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Connection {
    /// Made for this try.
    New,
    /// Kept from an earlier one, or shared with others by HTTP/2.
    Reused,
}

impl Connection {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::New, Self::Reused];

    /// The label in `tollgate_upstream_connections_total{kind}`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Reused => "reused",
        }
    }
}

/// A quantity that another room holds, and that is asked for at each scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Bytes of request bodies held in memory.
    BodiesHeld,
    /// Connections that clients have with the listeners.
    ClientConnections,
    /// Keys that limits keep a bucket for.
    LimitBuckets,
    /// How often a newcomer had to share its limit's one bucket for newcomers.
    LimitOverflow,
    /// Calls that wait for their turn.
    LimitWaiting,
    /// The age of the oldest exchange that is not in the ledger yet, in seconds.
    LedgerLag,
}

impl Level {
    /// The metric's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BodiesHeld => "tollgate_bodies_held_bytes",
            Self::ClientConnections => "tollgate_client_connections",
            Self::LimitBuckets => "tollgate_limit_buckets",
            Self::LimitOverflow => "tollgate_limit_overflow_total",
            Self::LimitWaiting => "tollgate_limit_waiting",
            Self::LedgerLag => "tollgate_ledger_lag_seconds",
        }
    }

    /// Whether it is a counter that another room keeps.
    pub(super) const fn only_grows(self) -> bool {
        match self {
            Self::LimitOverflow => true,
            Self::BodiesHeld | Self::ClientConnections | Self::LimitBuckets | Self::LimitWaiting | Self::LedgerLag => false,
        }
    }

    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::BodiesHeld => "Request bodies held in memory.",
            Self::ClientConnections => "Connections that clients have with the listeners.",
            Self::LimitBuckets => "Keys that limits keep a bucket for.",
            Self::LimitOverflow => "Calls of newcomers that shared a bucket because there was no room for one of their own.",
            Self::LimitWaiting => "Calls that wait for their turn.",
            Self::LedgerLag => "Age of the oldest exchange that is not in the ledger yet.",
        }
    }
}

/// What became of a warning for the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Posted {
    /// It was taken.
    Sent,
    /// It was given up after the last try.
    Failed,
    /// Too many waited before it.
    Dropped,
}

impl Posted {
    pub(super) const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::Dropped];

    /// The label in `tollgate_webhook_posts_total{outcome}`.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// The first digit of a status, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusClass {
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// A status that RFC 9110 has no class for, or an interim one where the final one never came.
    Other,
    /// The client left before an answer.
    None,
}

impl StatusClass {
    pub(super) const ALL: [Self; 6] = [Self::Success, Self::Redirection, Self::ClientError, Self::ServerError, Self::Other, Self::None];

    pub(super) const fn of(status: Option<u16>) -> Self {
        match status {
            Some(200..=299) => Self::Success,
            Some(300..=399) => Self::Redirection,
            Some(400..=499) => Self::ClientError,
            Some(500..=599) => Self::ServerError,
            Some(_) => Self::Other,
            None => Self::None,
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Other => "other",
            Self::None => "none",
        }
    }
}
