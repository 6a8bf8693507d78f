//! Claiming trees.

use sapwood_core::WorkerId;
use sapwood_core::store::{Claimed, Claims, StoreResult};

use crate::PostgresStore;
use crate::error::{failed, fenced};
use crate::rows::Reader;

impl PostgresStore {
    pub(crate) async fn claim(&self, worker: WorkerId, limit: usize, versions: &[String]) -> StoreResult<Claims> {
        let doing = "claim trees";
        let rows = sqlx::query(include_str!("../queries/trees_claim.sql"))
            .bind(worker.0)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(versions)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        let mut claims = Claims::default();
        // There is always a row, with nulls for a tree where none was claimed.
        for row in &rows {
            let row = Reader::new(row, doing);
            if !row.plain::<bool>("alive")? {
                return Err(fenced(worker));
            }
            claims.next_ready_at = row.time_or_null("next_ready_at")?;
            if let Some(taken_over) = row.plain("taken_over")? {
                claims.trees.push(Claimed { row: row.tree_row()?, taken_over });
            }
        }
        Ok(claims)
    }
}
