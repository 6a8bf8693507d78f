//! Workers: joining, burying, leaving.

use std::time::Duration;

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{Beat, Joined, Lease, Membership, StoreResult};

use crate::error::{failed, fenced};
use crate::fields::{Fields, micros};
use crate::lease::PostgresLease;
use crate::store::PostgresStore;

#[async_trait]
impl Membership for PostgresStore {
    async fn worker_join(&self, name: &str, fences: u16, lease: Duration) -> StoreResult<Joined> {
        let doing = "register a worker";
        let row = sqlx::query(include_str!("../queries/worker_join.sql"))
            .bind(name)
            .bind(i32::from(fences))
            .bind(micros(lease))
            .fetch_one(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
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
        let buried: Vec<i64> = sqlx::query_scalar(include_str!("../queries/worker_bury.sql"))
            .bind(by.0)
            .bind(ids)
            .bind(renewals)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed("declare workers dead", error))?;
        if buried.is_empty() {
            self.require_alive(by).await?;
        }
        Ok(buried.into_iter().map(WorkerId).collect())
    }

    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()> {
        sqlx::query(include_str!("../queries/worker_leave.sql"))
            .bind(worker.0)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(|error| failed("end a worker", error))
    }
}

impl PostgresStore {
    /// Refuses a worker that is not alive: a burial that changed nothing may have found nothing to do, or may have been
    /// asked for by a dead worker.
    async fn require_alive(&self, worker: WorkerId) -> StoreResult<()> {
        let alive: Option<bool> = sqlx::query_scalar(include_str!("../queries/worker_alive.sql"))
            .bind(worker.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| failed("read a worker", error))?;
        if alive == Some(true) { Ok(()) } else { Err(fenced(worker)) }
    }
}
