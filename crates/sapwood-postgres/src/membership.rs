//! Workers: joining, burying, leaving.

use std::time::Duration;

use async_trait::async_trait;
use sapwood_core::store::{Beat, Joined, Lease, Membership, StoreResult};
use sapwood_core::{ProcessId, WorkerId};

use crate::error::{fenced, is_of_a_table_gone, permanent};
use crate::fields::{Fields, micros};
use crate::lease::PostgresLease;
use crate::store::PostgresStore;

#[async_trait]
impl Membership for PostgresStore {
    async fn worker_join(
        &self,
        name: &str,
        fences: u16,
        lease: Duration,
        process: Option<ProcessId>,
    ) -> StoreResult<Joined> {
        let doing = "register a worker";
        let join = sqlx::query(self.workers.sql(include_str!("../queries/worker_join.sql")))
            .bind(name)
            .bind(i32::from(fences))
            .bind(micros(lease))
            .bind(process.map(|process| process.0));
        let mut is_gone = false;
        let joining = self.workers.run(doing, async |connection| {
            join.fetch_one(connection).await.inspect_err(|error| is_gone = is_of_a_table_gone(error))
        });
        let row = match joining.await {
            Err(error) if is_gone => {
                return Err(permanent("the tables of this context are no longer in PostgreSQL").caused_by(error));
            }
            joined => joined?,
        };
        let row = Fields::of(&row, doing);
        Ok(Joined { worker: WorkerId(row.plain("id")?), now: row.time("now")? })
    }

    fn lease(&self, worker: WorkerId) -> Box<dyn Lease> {
        Box::new(PostgresLease::new(self.connector.clone(), worker))
    }

    async fn worker_bury(&self, by: WorkerId, silent: &[Beat]) -> StoreResult<Vec<WorkerId>> {
        if silent.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i64> = silent.iter().map(|beat| beat.worker.0).collect();
        let renewals: Vec<i64> = silent.iter().map(|beat| beat.renewals.cast_signed()).collect();
        let bury = sqlx::query_scalar(self.workers.sql(include_str!("../queries/worker_bury.sql")))
            .bind(by.0)
            .bind(ids)
            .bind(renewals);
        let burying = self.workers.run("declare workers dead", async |connection| bury.fetch_all(connection).await);
        let buried: Vec<i64> = burying.await?;
        if buried.is_empty() {
            self.require_alive(by).await?;
        }
        Ok(buried.into_iter().map(WorkerId).collect())
    }

    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()> {
        let leave = sqlx::query(self.workers.sql(include_str!("../queries/worker_leave.sql"))).bind(worker.0);
        self.workers.run("end a worker", async |connection| leave.execute(connection).await).await.map(drop)
    }
}

impl PostgresStore {
    /// Refuses a worker that is not alive: a burial that changed nothing may have found nothing to do, or may have been
    /// asked for by a dead worker.
    async fn require_alive(&self, worker: WorkerId) -> StoreResult<()> {
        let ask = sqlx::query_scalar(self.workers.sql(include_str!("../queries/worker_alive.sql"))).bind(worker.0);
        let asking = self.workers.run("read a worker", async |connection| ask.fetch_optional(connection).await);
        let alive: Option<bool> = asking.await?;
        if alive == Some(true) { Ok(()) } else { Err(fenced(worker)) }
    }
}
