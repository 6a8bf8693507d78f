//! Workers: joining, renewing, burying, leaving; and the fence that every commit names.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::WorkerId;
use sapwood_core::store::{Lease, Membership, StoreResult};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;
use crate::error::{fenced, permanent};
use crate::fields::Fields;
use crate::store::SqliteStore;
use crate::work::Work;
use crate::writer::Writer;

static FENCE_INSERT: Bulk = Bulk::rows(include_str!("../queries/fence_insert.sql"));

#[async_trait]
impl Membership for SqliteStore {
    async fn worker_join(&self, name: &str, slots: u16, lease: Duration) -> StoreResult<WorkerId> {
        self.writer().run(Join { name: name.to_owned(), slots, lease }).await
    }

    fn lease(&self, worker: WorkerId) -> Box<dyn Lease> {
        Box::new(SqliteLease { writer: self.writer().clone(), worker })
    }

    async fn worker_bury(&self, by: WorkerId, expired: &[WorkerId]) -> StoreResult<Vec<WorkerId>> {
        self.writer().run(Bury { by, expired: expired.to_vec() }).await
    }

    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()> {
        self.writer().run(Leave { worker }).await
    }
}

/// Renews one worker's lease through the writer's queue, where it waits for one transaction at most. There is no
/// connection of its own: SQLite would let it wait for the writer all the same.
struct SqliteLease {
    writer: Writer,
    worker: WorkerId,
}

#[async_trait]
impl Lease for SqliteLease {
    async fn renew(&mut self, lease: Duration) -> StoreResult<Vec<WorkerId>> {
        self.writer.run(Renew { worker: self.worker, lease }).await
    }
}

/// Refuses a worker that is not alive. Under the write lock, so that it holds until the commit.
pub(crate) async fn require_alive(db: &mut Db<'_>, worker: WorkerId) -> StoreResult<()> {
    let alive = db.one(include_str!("../queries/worker_alive.sql"), Args::of(1).worker(worker)).await?;
    alive.map(|_| ()).ok_or_else(|| fenced(worker))
}

/// The incarnation of an open fence; refuses where it is closed, or is not the one known.
pub(crate) async fn require_fence(
    db: &mut Db<'_>,
    worker: WorkerId,
    slot: u16,
    known: Option<i64>,
) -> StoreResult<i64> {
    let args = Args::of(2).worker(worker).int(slot);
    let row = db.one(include_str!("../queries/fence_check.sql"), args).await?.ok_or_else(|| fenced(worker))?;
    let incarnation = Fields::of(&row).int()?;
    if known.is_some_and(|known| known != incarnation) {
        return Err(fenced(worker));
    }
    Ok(incarnation)
}

struct Join {
    name: String,
    slots: u16,
    lease: Duration,
}

#[async_trait]
impl Work for Join {
    type Answer = WorkerId;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<WorkerId> {
        let args = Args::of(3).text(self.name.as_str()).time(db.now).time(lease_end(db.now, self.lease)?);
        let row = db.one(include_str!("../queries/worker_insert.sql"), args).await?;
        let row = row.ok_or_else(|| permanent("SQLite gave a new worker no id"))?;
        let worker = WorkerId(Fields::of(&row).int()?);
        let slots: Vec<u16> = (0..self.slots).collect();
        db.insert(&FENCE_INSERT, &slots, |slot, args| args.worker(worker).int(*slot)).await?;
        Ok(worker)
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
        workers(&db.all(include_str!("../queries/worker_expired.sql"), args).await?)
    }
}

struct Bury {
    by: WorkerId,
    expired: Vec<WorkerId>,
}

#[async_trait]
impl Work for Bury {
    type Answer = Vec<WorkerId>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<WorkerId>> {
        require_alive(db, self.by).await?;
        let ids = self.expired.iter().filter(|worker| **worker != self.by).map(|worker| worker.0).collect::<Vec<_>>();
        let args = Args::of(2).text(serde_json::json!(ids).to_string()).time(db.now);
        let mut buried = workers(&db.all(include_str!("../queries/worker_bury.sql"), args).await?)?;
        db.run(include_str!("../queries/fence_close.sql"), Args::of(0)).await?;
        buried.sort_unstable();
        Ok(buried)
    }
}

struct Leave {
    worker: WorkerId,
}

#[async_trait]
impl Work for Leave {
    type Answer = ();

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<()> {
        db.run(include_str!("../queries/worker_leave.sql"), Args::of(1).worker(self.worker)).await?;
        db.run(include_str!("../queries/fence_close.sql"), Args::of(0)).await?;
        Ok(())
    }
}

fn lease_end(now: Timestamp, lease: Duration) -> StoreResult<Timestamp> {
    now.checked_add(lease).map_err(|error| permanent("a lease beyond the end of time").caused_by(error))
}

fn workers(rows: &[sqlx::sqlite::SqliteRow]) -> StoreResult<Vec<WorkerId>> {
    rows.iter().map(|row| Fields::of(row).int().map(WorkerId)).collect()
}
