//! The corridor as something that serves connections.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::{HttpServerOptions, ServerApp};
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;

use super::{Gateway, Plane};
use crate::listeners::Connection;
use crate::state::{Live, Snapshot};

/// An HTTP/2 connection without a request for so long is told to go: the clients of AWS's SDKs for JavaScript open another.
const H2_IDLE: Duration = Duration::from_mins(6);

/// Streams that one HTTP/2 connection may have open: the SDKs multiplex every call of a process over one connection.
const H2_STREAMS: u32 = 1024;

/// What a stream may send before it is told to go on, in bytes. With HTTP/2's own 64 KiB, a body of 25 MB takes 380 round trips.
const H2_STREAM_WINDOW: u32 = 1024 * 1024;

/// The same for all streams of a connection: at most so much is held that no one has read.
const H2_CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// Idle upstream connections kept for each thread.
pub const IDLE_UPSTREAM: usize = 256;

/// Serves connections: the gateway inside Pingora's proxy. Clones are the same one.
#[derive(Clone)]
pub struct Proxy {
    serving: Arc<HttpProxy<Gateway>>,
    plane: Arc<ArcSwap<Plane>>,
    live: Arc<Live>,
}

impl Proxy {
    /// A proxy that begins with `snapshot`, on a runtime of `threads` workers.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, live: Arc<Live>, threads: usize) -> Self {
        let conf = ServerConf { threads, upstream_keepalive_pool_size: IDLE_UPSTREAM, ..ServerConf::default() };
        let plane = Arc::new(ArcSwap::from_pointee(Plane::of(snapshot, &live)));
        let mut proxy = HttpProxy::new(
            Gateway { plane: Arc::clone(&plane), live: Arc::clone(&live), mirrors: super::mirror::connections() },
            Arc::new(conf),
        );
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(H2_IDLE);
        proxy.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.max_concurrent_streams(H2_STREAMS).initial_window_size(H2_STREAM_WINDOW).initial_connection_window_size(H2_CONNECTION_WINDOW);
        proxy.h2_options = Some(h2);
        proxy.handle_init_modules();
        Self { serving: Arc::new(proxy), plane, live }
    }

    /// From now on requests begin with `snapshot`. Those under way keep the one that they began with.
    pub fn swap(&self, snapshot: Arc<Snapshot>) {
        self.plane.store(Arc::new(Plane::of(snapshot, &self.live)));
    }

    /// What a request would begin with now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.plane.load().snapshot)
    }

    /// Serves one connection to its end. `shutdown` turns true when no further request is wanted on it.
    pub async fn serve(&self, connection: Connection, shutdown: &ShutdownWatch) {
        ServerApp::process_new(&self.serving, Box::new(connection), shutdown).await;
    }
}
