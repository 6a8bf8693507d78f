//! The workers of a store, and which of them are alive.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreResult;
use crate::WorkerId;

/// The workers of a store.
#[async_trait]
pub trait Membership {
    /// Registers a worker with `fences` fence rows. Its lease runs from now, by the database's clock.
    async fn worker_join(&self, name: &str, fences: u16, lease: Duration) -> StoreResult<WorkerId>;

    /// A value that renews the worker's lease, on a connection of its own that the first renewal opens, so that it may
    /// live on a thread and a runtime of its own.
    fn lease(&self, worker: WorkerId) -> Box<dyn Lease>;

    /// Declares dead, for ever, those of `expired` whose lease is over by the database's clock; returns them.
    ///
    /// Returns only when no commit of theirs is under way. Their trees are claimed as if they had no owner.
    async fn worker_bury(&self, by: WorkerId, expired: &[WorkerId]) -> StoreResult<Vec<WorkerId>>;

    /// Ends a worker at its own request; others claim at once what it still owns.
    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()>;
}

/// Renews one worker's lease.
#[async_trait]
pub trait Lease: Send {
    /// Moves the lease's end to now plus `lease`, by the database's clock. Returns the other workers whose lease is
    /// over and who were not declared dead yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Fenced`](super::StoreErrorKind::Fenced) if this worker was declared dead.
    async fn renew(&mut self, lease: Duration) -> StoreResult<Vec<WorkerId>>;
}
