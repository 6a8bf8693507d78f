//! Workers: joining, burying, leaving; and the fence that every commit names.
//!
//! A fence is checked under the write lock, within the transaction that it guards. So a commit of a worker comes wholly
//! before its burial, or is refused; no lock of the row is needed for that.

use std::time::Duration;

use async_trait::async_trait;
use sapwood_core::store::{Beat, Joined, Lease, Membership, StoreResult};
use sapwood_core::{ProcessId, WorkerId};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;
use crate::error::{fenced, permanent};
use crate::fields::Fields;
use crate::lease::{SqliteLease, micros};
use crate::rows;
use crate::store::SqliteStore;
use crate::work::Work;

static FENCE_INSERT: Bulk = Bulk::rows(include_str!("../queries/fence_insert.sql"));

#[async_trait]
impl Membership for SqliteStore {
    async fn worker_join(
        &self,
        name: &str,
        fences: u16,
        lease: Duration,
        process: Option<ProcessId>,
    ) -> StoreResult<Joined> {
        self.writer().run(Join { name: name.to_owned(), fences, lease, process }).await
    }

    fn lease(&self, worker: WorkerId) -> Box<dyn Lease> {
        Box::new(SqliteLease::new(self.writer().clone(), worker))
    }

    async fn worker_bury(&self, by: WorkerId, silent: &[Beat]) -> StoreResult<Vec<WorkerId>> {
        self.writer().run(Bury { by, silent: silent.to_vec() }).await
    }

    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()> {
        self.writer().run(Leave { worker }).await
    }
}

/// Refuses a worker that is not alive. This is read under the write lock, so it holds until the commit.
pub(crate) async fn require_alive(db: &mut Db<'_>, worker: WorkerId) -> StoreResult<()> {
    let alive = db.one(include_str!("../queries/worker_alive.sql"), Args::of(1).worker(worker)).await?;
    alive.map(drop).ok_or_else(|| fenced(worker))
}

/// The incarnation of an open fence; refuses if it is closed, or is not the one that is known.
pub(crate) async fn require_fence(
    db: &mut Db<'_>,
    worker: WorkerId,
    fence: u16,
    known: Option<i64>,
) -> StoreResult<i64> {
    let args = Args::of(2).worker(worker).int(fence);
    let row = db.one(include_str!("../queries/fence_check.sql"), args).await?.ok_or_else(|| fenced(worker))?;
    let incarnation = Fields::of(&row).int()?;
    if known.is_some_and(|known| known != incarnation) {
        return Err(fenced(worker));
    }
    Ok(incarnation)
}

struct Join {
    name: String,
    fences: u16,
    lease: Duration,
    process: Option<ProcessId>,
}

#[async_trait]
impl Work for Join {
    type Answer = Joined;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Joined> {
        let args = Args::of(4).text(self.name.as_str()).time(db.now).int(micros(self.lease));
        let args = args.opt_process(self.process);
        let row = db.one(include_str!("../queries/worker_join.sql"), args).await?;
        let row = row.ok_or_else(|| permanent("SQLite gave a new worker no id"))?;
        let worker = WorkerId(Fields::of(&row).int()?);
        let fences: Vec<u16> = (0..self.fences).collect();
        db.insert(&FENCE_INSERT, &fences, |fence, args| args.worker(worker).int(*fence)).await?;
        Ok(Joined { worker, now: db.now })
    }
}

struct Bury {
    by: WorkerId,
    silent: Vec<Beat>,
}

#[async_trait]
impl Work for Bury {
    type Answer = Vec<WorkerId>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<WorkerId>> {
        require_alive(db, self.by).await?;
        let others = self.silent.iter().filter(|beat| beat.worker != self.by);
        let silent: Vec<(i64, u64)> = others.map(|beat| (beat.worker.0, beat.renewals)).collect();
        let args = Args::of(2).text(serde_json::json!(silent).to_string()).time(db.now);
        let mut buried = rows::workers(&db.all(include_str!("../queries/worker_bury.sql"), args).await?)?;
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
        let args = Args::of(2).worker(self.worker).time(db.now);
        db.run(include_str!("../queries/worker_leave.sql"), args).await?;
        db.run(include_str!("../queries/fence_close.sql"), Args::of(0)).await?;
        Ok(())
    }
}
