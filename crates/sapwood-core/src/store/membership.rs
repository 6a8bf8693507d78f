//! The workers of a store, and which of them are alive.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreResult;
use crate::{ProcessId, WorkerId};

/// The workers of a store.
#[async_trait]
pub trait Membership {
    /// Registers a worker with `fences` fence rows, the length of its lease, and the process that it is of, by which others
    /// of its machine may find out that it has ended.
    ///
    /// # Errors
    /// [`StoreErrorKind::Permanent`](super::StoreErrorKind::Permanent) if the store has lost its tables: what runs cannot
    /// make them, and only another start of the process looks which migrations are missing.
    async fn worker_join(
        &self,
        name: &str,
        fences: u16,
        lease: Duration,
        process: Option<ProcessId>,
    ) -> StoreResult<Joined>;

    /// A value that renews the worker's lease, on a connection of its own that the first renewal opens, so that it may
    /// live on a thread and a runtime of its own.
    fn lease(&self, worker: WorkerId) -> Box<dyn Lease>;

    /// Declares dead, for ever, those of `silent` that have not renewed since they were seen like this; returns them. For
    /// how long they must have been silent is the watcher's to judge, by a clock of its own: the database's may be set. So
    /// is whether their process has ended.
    ///
    /// Returns only when no commit of theirs is under way. Their trees are claimed as if they had no owner.
    async fn worker_bury(&self, by: WorkerId, silent: &[Beat]) -> StoreResult<Vec<WorkerId>>;

    /// Ends a worker at its own request; others claim at once what it still owns.
    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()>;
}

/// Renews one worker's lease.
#[async_trait]
pub trait Lease: Send {
    /// Counts a renewal, and says from now on that the lease has this length. Returns the other workers that were not
    /// declared dead, each with how often it has renewed.
    ///
    /// # Errors
    /// [`StoreErrorKind::Fenced`](super::StoreErrorKind::Fenced) if this worker was declared dead.
    async fn renew(&mut self, lease: Duration) -> StoreResult<Renewal>;
}

/// A worker that has joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Its identity, which is never given again.
    pub worker: WorkerId,
    /// The time by the database's clock.
    pub now: Timestamp,
}

/// What a renewal learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The time by the database's clock.
    pub now: Timestamp,
    /// The other workers that are not declared dead and have not left, by id.
    pub others: Vec<Beat>,
}

/// How often a worker has renewed its lease: it is alive as long as this moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// The worker.
    pub worker: WorkerId,
    /// Its renewals so far.
    pub renewals: u64,
    /// The length of its lease.
    pub lease: Duration,
    /// The process that it is of, if it said so when it joined.
    pub process: Option<ProcessId>,
}
