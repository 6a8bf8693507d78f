//! The renewal of a worker's lease.
//!
//! A renewal goes through the writer's queue, where it waits for one transaction at most. It has no connection of its
//! own, because SQLite would let that wait for the writer all the same.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::WorkerId;
use sapwood_core::store::{Lease, StoreResult};

use crate::args::Args;
use crate::db::Db;
use crate::error::{fenced, permanent};
use crate::rows;
use crate::work::Work;
use crate::writer::Writer;

/// A [`Lease`] that is renewed by the writer.
pub(crate) struct SqliteLease {
    writer: Writer,
    worker: WorkerId,
}

impl SqliteLease {
    pub(crate) const fn new(writer: Writer, worker: WorkerId) -> Self {
        Self { writer, worker }
    }
}

#[async_trait]
impl Lease for SqliteLease {
    async fn renew(&mut self, lease: Duration) -> StoreResult<Vec<WorkerId>> {
        self.writer.run(Renew { worker: self.worker, lease }).await
    }
}

struct Renew {
    worker: WorkerId,
    lease: Duration,
}

#[async_trait]
impl Work for Renew {
    type Answer = Vec<WorkerId>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<WorkerId>> {
        let args = Args::of(2).worker(self.worker).time(lease_end(db.now, self.lease)?);
        if db.run(include_str!("../queries/worker_renew.sql"), args).await? == 0 {
            return Err(fenced(self.worker));
        }
        let args = Args::of(2).worker(self.worker).time(db.now);
        rows::workers(&db.all(include_str!("../queries/worker_expired.sql"), args).await?)
    }
}

/// The end of a lease that runs from now.
pub(crate) fn lease_end(now: Timestamp, lease: Duration) -> StoreResult<Timestamp> {
    now.checked_add(lease).map_err(|error| permanent("a lease beyond the end of time").caused_by(error))
}
