//! The renewal of a worker's lease.
//!
//! The first renewal opens the connection, so that it belongs to the runtime on which it is used: a worker renews on a
//! thread of its own, which a busy runtime cannot hold up. A renewal touches the worker's own row only, and a commit
//! locks its fence's row only, so neither waits for the other.

use std::time::Duration;

use async_trait::async_trait;
use sapwood_core::store::{Beat, Lease, Renewal, StoreResult};
use sapwood_core::{ProcessId, WorkerId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::connect::Connector;
use crate::error::{failed, fenced, is_usable_after, unanswered};
use crate::fields::{Fields, micros};

/// A [`Lease`] on a connection of its own.
pub(crate) struct PostgresLease {
    connector: Connector,
    worker: WorkerId,
    /// None before the first renewal, and after one that was cut short.
    connection: Option<PgConnection>,
}

impl PostgresLease {
    pub(crate) const fn new(connector: Connector, worker: WorkerId) -> Self {
        Self { connector, worker, connection: None }
    }
}

#[async_trait]
impl Lease for PostgresLease {
    async fn renew(&mut self, lease: Duration) -> StoreResult<Renewal> {
        let doing = "renew a lease";
        let renewing = async {
            // Taken out, so that a renewal that is cut short leaves no connection in an unknown state behind.
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.connector.open("lease").await?,
            };
            let renewed = sqlx::query(self.connector.sql(include_str!("../queries/worker_renew.sql")))
                .bind(self.worker.0)
                .bind(micros(lease))
                .fetch_one(&mut connection)
                .await;
            if renewed.as_ref().err().is_none_or(is_usable_after) {
                self.connection = Some(connection);
            }
            renewed.map_err(|error| failed(doing, error))
        };
        // An answer that comes after the end of the lease is worth nothing.
        let within = lease.min(self.connector.answer_within);
        let row = tokio::time::timeout(within, renewing).await.map_err(|_| unanswered(doing))??;
        let row = Fields::of(&row, doing);
        if !row.plain::<bool>("alive")? {
            return Err(fenced(self.worker));
        }
        let columns = ["others", "renewals", "leases_us"].map(|column| row.plain::<Vec<i64>>(column));
        let [others, renewals, leases] = columns;
        let processes: Vec<Option<Uuid>> = row.plain("processes")?;
        let others = others?.into_iter().zip(renewals?).zip(leases?).zip(processes);
        let others = others.map(|(((worker, renewals), lease), process)| Beat {
            worker: WorkerId(worker),
            renewals: renewals.cast_unsigned(),
            lease: Duration::from_micros(lease.unsigned_abs()),
            process: process.map(ProcessId),
        });
        Ok(Renewal { now: row.time("now")?, others: others.collect() })
    }
}
