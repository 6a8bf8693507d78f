//! The renewal of a worker's lease.
//!
//! The connection is opened by the first renewal, so that it belongs to the runtime it is renewed on: a worker renews
//! on a thread of its own, which a busy runtime cannot hold up. Renewals touch the worker's own row only; commits hold
//! its fence rows.

use std::time::Duration;

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{Lease, StoreResult};

use crate::connect::Connector;
use crate::error::{failed, fenced, is_usable_after, silent};
use crate::membership::micros;
use crate::rows::Reader;

/// A [`Lease`] on a connection of its own.
pub(crate) struct PostgresLease {
    connector: Connector,
    worker: WorkerId,
    connection: Option<sqlx::PgConnection>,
}

impl PostgresLease {
    pub(crate) const fn new(connector: Connector, worker: WorkerId) -> Self {
        Self { connector, worker, connection: None }
    }
}

#[async_trait]
impl Lease for PostgresLease {
    async fn renew(&mut self, lease: Duration) -> StoreResult<Vec<WorkerId>> {
        let doing = "renew a lease";
        let renewing = async {
            // Taken out, so that a renewal cut short leaves no connection in an unknown state behind.
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.connector.open("lease").await?,
            };
            let renewed = sqlx::query(include_str!("../queries/worker_renew.sql"))
                .bind(self.worker.0)
                .bind(micros(lease))
                .fetch_one(&mut connection)
                .await;
            if renewed.as_ref().err().is_none_or(is_usable_after) {
                self.connection = Some(connection);
            }
            renewed.map_err(|error| failed(doing, error))
        };
        // An answer after the lease is over is worth nothing.
        let row = tokio::time::timeout(lease, renewing).await.map_err(|_| silent(doing))??;
        let row = Reader::new(&row, doing);
        if !row.plain::<bool>("alive")? {
            return Err(fenced(self.worker));
        }
        Ok(row.plain::<Vec<i64>>("expired")?.into_iter().map(WorkerId).collect())
    }
}
