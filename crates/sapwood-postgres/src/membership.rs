//! Workers: joining, burying, leaving.

use std::time::Duration;

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{Lease, Membership, StoreResult};

use crate::error::{failed, fenced};
use crate::fields::micros;
use crate::lease::PostgresLease;
use crate::store::PostgresStore;

#[async_trait]
impl Membership for PostgresStore {
    async fn worker_join(&self, name: &str, fences: u16, lease: Duration) -> StoreResult<WorkerId> {
        sqlx::query_scalar(include_str!("../queries/worker_join.sql"))
            .bind(name)
            .bind(i32::from(fences))
            .bind(micros(lease))
            .fetch_one(&self.pool)
            .await
            .map(WorkerId)
            .map_err(|error| failed("register a worker", error))
    }

    fn lease(&self, worker: WorkerId) -> Box<dyn Lease> {
        Box::new(PostgresLease::new(self.connector.clone(), worker))
    }

    async fn worker_bury(&self, by: WorkerId, expired: &[WorkerId]) -> StoreResult<Vec<WorkerId>> {
        if expired.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i64> = expired.iter().map(|worker| worker.0).collect();
        let buried: Vec<i64> = sqlx::query_scalar(include_str!("../queries/worker_bury.sql"))
            .bind(by.0)
            .bind(ids)
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
