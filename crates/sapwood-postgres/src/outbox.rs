//! The outbox: lanes, and the rows that wait in them to be published.
//!
//! Events of one key have to leave in the order in which their trees committed, and no event may be skipped. A plain
//! sequence gives neither, because the `seq` of a row is drawn before the commit. A reader that goes on after the
//! highest `seq` it saw then misses the row whose commit came late:
//!
//! ```text
//!   A      nextval: 7 ──────────────────────────────── commit: 7 is visible
//!   B           nextval: 8 ── commit: 8 is visible
//!   relay                                     reads 8              goes on after 8, never sees 7
//! ```
//!
//! So an event belongs to a *lane*, by the hash of its topic and key, and the committing statement draws the `seq`s of
//! a lane under the lock of that lane. The lock is an advisory lock of the transaction. PostgreSQL releases it after
//! the commit is durable and visible:
//!
//! ```text
//!   A   ├─ lock ── nextval: 7 ── commit ─┤
//!   B        ├─ lock ── waits ───────────┼─ nextval: 8 ── commit ─┤
//! ```
//!
//! When row 8 is visible, row 7 is visible too, or its transaction was rolled back. Hence within a lane the order of
//! `seq` is the order of commits, a reader that goes on after the last `seq` it saw misses nothing, and a gap means
//! nothing. One sequence serves all lanes, because only its order within a lane matters.
//!
//! - The locks are the last thing that the statement takes, ascending, and only those of lanes for which it has events:
//!   they are held for little more than the flush of the commit, and two batches cannot wait for each other in a
//!   circle.
//! - Emitters never touch the rows of `lane`. Those belong to the publisher: which worker has the lane, under which
//!   epoch, and up to which `seq` it has published. So a slow publisher holds up no commit.
//! - Rejected: a timestamp or a transaction id as the order, which loses or reorders rows of concurrent commits; and a
//!   counter row per lane, whose dead versions pile up under an old snapshot, and on which batches deadlocked.

use std::collections::HashSet;

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{LaneAdvance, LaneLease, OrderedRows, Outbox, OutboxRow, StoreResult};
use sqlx::postgres::PgBindIterExt;

use crate::error::fenced;
use crate::fields::{Fields, row_limit};
use crate::rows;
use crate::store::PostgresStore;

#[async_trait]
impl Outbox for PostgresStore {
    async fn lane_claim(&self, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>> {
        let doing = "lease lanes";
        let claim = sqlx::query(self.workers.sql(include_str!("../queries/lane_claim.sql")))
            .bind(worker.0)
            .bind(i64::from(limit));
        let found = self.workers.run(doing, async |connection| claim.fetch_all(connection).await).await?;
        let mut leases = Vec::with_capacity(found.len());
        // There is always a row, with nulls for the lane if the worker has none.
        for row in &found {
            let row = Fields::of(row, doing);
            if !row.plain::<bool>("alive")? {
                return Err(fenced(worker));
            }
            if let Some(lane) = row.plain::<Option<i16>>("lane")? {
                let (epoch, published) = (row.plain("epoch")?, row.plain("published")?);
                leases.push(LaneLease { lane: lane.cast_unsigned(), epoch, published });
            }
        }
        Ok(leases)
    }

    async fn outbox_read(&self, lane: u16, after: i64, limit: usize) -> StoreResult<OrderedRows<OutboxRow>> {
        let doing = "read the outbox";
        let read = sqlx::query(self.workers.sql(include_str!("../queries/outbox_read.sql")))
            .bind(lane.cast_signed())
            .bind(after)
            .bind(row_limit(limit));
        let found = self.workers.run(doing, async |connection| read.fetch_all(connection).await).await?;
        rows::ordered(&found, doing, "seq", rows::outbox_row)
    }

    async fn lane_advance(&self, worker: WorkerId, advances: &[LaneAdvance]) -> StoreResult<Vec<u16>> {
        if advances.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "write back how far lanes are published";
        let advance = sqlx::query_scalar(self.workers.sql(include_str!("../queries/lane_advance.sql")))
            .bind(worker.0)
            .bind(advances.iter().map(|advance| advance.lane.cast_signed()).bind_iter())
            .bind(advances.iter().map(|advance| advance.epoch).bind_iter())
            .bind(advances.iter().map(|advance| advance.published).bind_iter());
        let advanced: Vec<i16> =
            self.workers.run(doing, async |connection| advance.fetch_all(connection).await).await?;
        let advanced: HashSet<u16> = advanced.into_iter().map(i16::cast_unsigned).collect();
        Ok(advances.iter().map(|advance| advance.lane).filter(|lane| !advanced.contains(lane)).collect())
    }

    async fn lane_release(&self, worker: WorkerId) -> StoreResult<()> {
        let release = sqlx::query(self.workers.sql(include_str!("../queries/lane_release.sql"))).bind(worker.0);
        let released = self.workers.run("release lanes", async |connection| release.execute(connection).await);
        released.await.map(drop)
    }
}
