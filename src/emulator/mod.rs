//! A stand-in for Amazon Bedrock, for the demo, the tests and the benches: does a request reach Bedrock as Bedrock wants it, and what if
//! Bedrock fails?
//!
//! It answers the runtime's operations, agents and harnesses, a few of the control plane's, the OpenAI and Anthropic shapes, and echoes
//! anything else; it recomputes every signature by code of its own ([`verify`]); it refuses what a re-signing gateway must not let through;
//! and it breaks on request ([`Fault`]). It bills what its models generated ([`Emulator::bills`], and Bedrock's own log of invocations,
//! [`Options::invocation_logs`]), so that a gateway's figures can be checked against it. Its invariant: what it says is a function of what
//! it was sent, so a test knows the answer beforehand. Shapes follow botocore 1.44.5's service models. It keeps everything in memory,
//! bounded, and listens on loopback unless told otherwise.

mod agents;
mod answer;
mod anthropic;
mod bill;
mod canonical;
mod claim;
mod control;
pub mod eventstream;
mod faults;
mod guardrail;
mod invocation_log;
mod invoke;
mod openai;
mod options;
mod quota;
mod reply;
mod requests;
mod route;
mod runtime;
mod scope;
mod script;
mod serve;
mod server;
mod state;
mod strict;
#[cfg(test)]
mod tests;
mod tier;
pub mod verify;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use answer::Usage;
pub use bill::{Bill, Billed, REMEMBERED_BILLS};
pub use faults::{Fault, Manner, Place, UnknownFault};
pub use options::{Credential, Options, TlsOptions};
pub use quota::{Quota, QuotaUse};
pub use requests::{Outcome, REMEMBERED, REMEMBERED_BODY, SeenBody, SeenRequest};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use self::invocation_log::InvocationLog;
use self::state::State;

/// A running emulator. Dropping it ends every listener, connection and stream of it.
pub struct Emulator {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    state: Arc<State>,
    connections: Arc<AtomicU64>,
    /// The listeners; each owns its connections.
    _listeners: JoinSet<()>,
}

impl Emulator {
    /// Listens, and answers on the current tokio runtime until it is dropped.
    ///
    /// # Errors
    /// Where an address cannot be listened on, or (`InvalidInput`) a certificate or key cannot be read.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.address).await?;
        let address = listener.local_addr()?;
        let tls = match &options.tls {
            Some(tls) => Some((TcpListener::bind(tls.address).await?, TlsAcceptor::from(Arc::new(tls.server_config()?)))),
            None => None,
        };
        let state = Arc::new(State::new(options));
        let connections = Arc::new(AtomicU64::new(0));
        let mut listeners = JoinSet::new();
        let mut tls_address = None;
        if let Some((listener, acceptor)) = tls {
            tls_address = Some(listener.local_addr()?);
            listeners.spawn(server::listen(listener, Some(acceptor), Arc::clone(&state), Arc::clone(&connections)));
        }
        listeners.spawn(server::listen(listener, None, Arc::clone(&state), Arc::clone(&connections)));
        Ok(Self { address, tls_address, state, connections, _listeners: listeners })
    }

    /// Where plain HTTP/1.1 and HTTP/2 are heard.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where TLS is heard, if it is.
    #[must_use]
    pub const fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// The last [`REMEMBERED`] requests, oldest first. With [`Options::quick`], unary Converse calls are not among them.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.state.requests.all()
    }

    /// Waits until `satisfied` is true of the requests remembered, and returns them: for tests, which never sleep.
    /// It may wait for ever; put a timeout around it.
    pub async fn requests_until(&self, mut satisfied: impl FnMut(&[SeenRequest]) -> bool) -> Vec<SeenRequest> {
        loop {
            let changed = self.state.requests.changed();
            let all = self.state.requests.all();
            if satisfied(&all) {
                return all;
            }
            changed.await;
        }
    }

    /// How many connections have been accepted since the start, on both ports.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Lets `fault` strike the next `times` requests that pass verification (for [`Fault::CloseOnReuse`]: that come on a used connection).
    /// Faults injected one after another strike one after another. Beyond 10,000 in the queue they are dropped.
    pub fn inject(&self, fault: Fault, times: u64) {
        self.state.inject(fault, times);
    }

    /// Lets `events` more events of [`Fault::Gated`] streams go out.
    pub fn release(&self, events: usize) {
        self.state.gate.add_permits(events);
    }

    /// What each model (by the id in the path or body) has been asked for and has truly generated: the sums of [`Emulator::bills`], of
    /// those forgotten too.
    #[must_use]
    pub fn bill(&self) -> BTreeMap<String, Billed> {
        self.state.bills.accounts()
    }

    /// The last [`REMEMBERED_BILLS`] answers of models, oldest first, those still being sent included. An answer is billed from its 200 on;
    /// a refused call and one that a fault broke off before its answer are on no bill, nor are those that [`Options::quick`] answers. What
    /// a request is billed is final once [`Emulator::requests_until`] has shown its end.
    #[must_use]
    pub fn bills(&self) -> Vec<Bill> {
        self.state.bills.last()
    }

    /// How each model's quota ([`Options::quotas`]) was used, of models that were asked for.
    #[must_use]
    pub fn quota_use(&self) -> BTreeMap<String, QuotaUse> {
        self.state.accounts.used()
    }

    /// Writes what [`Options::invocation_logs`] still holds back to its files; nothing where it isn't set. It blocks on the file system.
    ///
    /// # Errors
    /// Where a directory or file can't be written; what was held back is lost then.
    pub fn flush_invocation_logs(&self) -> io::Result<()> {
        self.state.bills.log.as_ref().map_or(Ok(()), InvocationLog::flush)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // What is still being answered is written when its connection's task has ended, with the last handle on the log.
        if let Some(log) = &self.state.bills.log {
            log.flush_or_warn();
        }
    }
}
