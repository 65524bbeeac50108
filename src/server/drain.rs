//! How a gateway leaves: load balancers first, then connections, then answers, and what is left of them in the end.

use std::future::Future;
use std::time::Duration;

use super::entrances::GRACE;
use super::{DRAINING, FALL, LOOK, Running, notify};
use crate::config::admin::Admin;

/// How often it is told how much is left.
const TELL: Duration = Duration::from_secs(1);

/// Within so long the service manager hears of it again, or may think that the gateway hangs. Records are flushed within 16 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// The times that a gateway takes to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// For so long it is not ready, and takes connections all the same: until every load balancer has noticed.
    pub delay: Duration,
    /// For so long it then takes none, and lets answers that are under way end.
    pub timeout: Duration,
}

impl From<&Admin> for Drain {
    fn from(admin: &Admin) -> Self {
        Self { delay: admin.drain_delay, timeout: admin.drain_timeout }
    }
}

impl Running {
    /// Stops accepting at once, lets what is under way end for at most `grace`, and ends what is left.
    pub async fn drain(self, grace: Duration) {
        self.leave_within(Drain { delay: Duration::ZERO, timeout: grace }, std::future::pending()).await;
    }

    /// Leaves in good order, in the times that the configuration in force has for it: see [`Running::leave_within`].
    pub async fn leave(self, hurry: impl Future<Output = ()>) {
        let drain = Drain::from(&self.works.in_force.lock().await.config.admin);
        self.leave_within(drain, hurry).await;
    }

    /// Leaves in good order. From the beginning `/readyz` says no, and every answer tells its client to end the connection. After the delay no connection is
    /// taken. HTTP/2 is told GOAWAY; connections that wait between two requests, or for their first one, have three seconds to send it. Answers may take
    /// the timeout to end. Those that are left then are told so ([`Live::ending`](crate::state::Live::ending)) and have two seconds to end well. The
    /// rest is cut, and all is recorded.
    ///
    /// When `hurry` is done, everything is cut at once.
    pub async fn leave_within(self, drain: Drain, hurry: impl Future<Output = ()>) {
        self.works.serving.unmet(DRAINING);
        self.works.live.leaving.for_good();
        notify::stopping();
        tokio::select! {
            biased;
            () = self.let_end(drain) => {}
            () = hurry => tracing::warn!("told to end at once"),
            () = self.tell_what_is_left() => {}
        }
        notify::still_stopping(PATIENCE, "writing down what is left");
        self.close();
        self.works.kill.cancel();
        self.works.background.close();
        self.works.background.wait().await;
        // What was cut is recorded as it falls.
        drop(tokio::time::timeout(FALL, async { tokio::join!(self.idle(), self.works.live.mirrors.ended()) }).await);
        let live = std::sync::Arc::clone(&self.works.live);
        // It waits for a disk. A panic in it is its own report.
        drop(tokio::task::spawn_blocking(move || live.recorder.flush()).await);
    }

    async fn let_end(&self, drain: Drain) {
        if !drain.delay.is_zero() {
            tracing::info!(delay = ?drain.delay, "not ready, and still taking connections");
            tokio::time::sleep(drain.delay).await;
        }
        self.close();
        if tokio::time::timeout(drain.timeout, self.end_well()).await.is_ok() {
            return;
        }
        let (connections, exchanges) = self.left();
        tracing::warn!(connections, exchanges, "ending what outlived the drain");
        self.works.live.ending.cancel();
        if tokio::time::timeout(FALL, self.idle()).await.is_err() {
            let (connections, exchanges) = self.left();
            tracing::warn!(connections, exchanges, "cut what outlived the drain");
        }
    }

    /// Waits until all is over. A client that has just connected has its request still to send.
    async fn end_well(&self) {
        if tokio::time::timeout(GRACE, self.idle()).await.is_err() {
            self.works.quit.cancel();
            self.idle().await;
        }
    }

    /// Takes nothing new.
    fn close(&self) {
        self.works.stop.cancel();
        self.works.shut.send_replace(true);
        self.works.doors.lock().shut();
        self.works.connections.close();
    }

    /// Connections and exchanges.
    fn left(&self) -> (usize, u64) {
        (self.works.connections.len(), self.works.live.metrics.under_way())
    }

    async fn tell_what_is_left(&self) {
        loop {
            let (connections, exchanges) = self.left();
            notify::still_stopping(PATIENCE, &format!("draining: {exchanges} exchanges on {connections} connections left"));
            tokio::time::sleep(TELL).await;
        }
    }

    /// Waits until no connection and no exchange is left: answers may outlive their clients' connections.
    async fn idle(&self) {
        self.works.connections.wait().await;
        while self.works.live.metrics.under_way() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}
