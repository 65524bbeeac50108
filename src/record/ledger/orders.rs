//! What operators change, and canaries do: written at once, while whoever asked waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::SystemTime;

use rusqlite::{Connection, TransactionBehavior};

use super::grants::KeptGrant;
use super::{LedgerError, canaries, grants, stops};
use crate::domain::{Grant, KeptCanary, Stop, Stopped};

/// What is to be done.
#[derive(Debug)]
pub(super) enum Order {
    /// Make this grant, whose id the ledger gives, for a rule that counts so.
    Grant(Grant, &'static str),
    /// Take this grant back.
    Revoke(u64),
    /// Keep this stop, in place of one of the same.
    Stop(Stop),
    /// Keep it no more.
    Lift(Stopped),
    /// Keep how far a canary has come.
    Canary(KeptCanary),
}

/// What became of an order.
#[derive(Debug)]
pub(super) enum Done {
    /// This is how the grant is now.
    Kept(KeptGrant),
    /// It is as it was to be.
    So,
    /// There is no such thing.
    Unknown,
    /// There are too many.
    Full,
}

/// An order, and who waits for its end.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) order: Order,
    pub(super) claim: Claim,
    pub(super) answer: SyncSender<Result<Done, LedgerError>>,
}

/// The right to do an order, or to call it off: whoever comes first has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether nobody had it.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

impl Order {
    /// Does it, in a transaction of its own: once this returns, it is on the disk.
    pub(super) fn execute(&self, connection: &mut Connection, now: SystemTime) -> rusqlite::Result<Done> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = match self {
            Self::Grant(grant, count) => grants::make(&transaction, grant, count)?.map_or(Done::Full, Done::Kept),
            Self::Revoke(id) => grants::revoke(&transaction, *id, now)?.map_or(Done::Unknown, Done::Kept),
            Self::Stop(stop) => {
                stops::keep(&transaction, stop)?;
                Done::So
            }
            Self::Canary(canary) => {
                canaries::keep(&transaction, canary)?;
                Done::So
            }
            Self::Lift(what) if stops::lift(&transaction, what)? => Done::So,
            Self::Lift(_) => Done::Unknown,
        };
        transaction.commit()?;
        Ok(done)
    }
}
