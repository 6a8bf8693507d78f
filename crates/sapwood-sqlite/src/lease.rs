//! The renewal of a worker's lease.
//!
//! A renewal goes through the writer's queue, where it waits for one transaction at most. It has no connection of its
//! own, because SQLite would let that wait for the writer all the same.

use std::time::Duration;

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{Lease, Renewal, StoreResult};

use crate::args::Args;
use crate::db::Db;
use crate::error::fenced;
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
    async fn renew(&mut self, lease: Duration) -> StoreResult<Renewal> {
        self.writer.run(Renew { worker: self.worker, lease }).await
    }
}

struct Renew {
    worker: WorkerId,
    lease: Duration,
}

#[async_trait]
impl Work for Renew {
    type Answer = Renewal;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Renewal> {
        let args = Args::of(2).worker(self.worker).int(micros(self.lease));
        if db.run(include_str!("../queries/worker_renew.sql"), args).await? == 0 {
            return Err(fenced(self.worker));
        }
        let args = Args::of(1).worker(self.worker);
        let rows = db.all(include_str!("../queries/worker_list.sql"), args).await?;
        let others = rows.iter().map(rows::beat).collect::<StoreResult<_>>()?;
        Ok(Renewal { now: db.now, others })
    }
}

/// A length as it is stored: in microseconds, at most the most that SQLite holds.
pub(crate) fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}
