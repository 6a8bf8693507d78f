//! Claiming trees.

use sapwood_core::store::{Claimed, Claims, StoreResult};
use sapwood_core::{FunctionVersion, WorkerId};

use crate::error::fenced;
use crate::fields::{Fields, row_limit};
use crate::pool::Pool;
use crate::rows;

pub(crate) async fn claim(
    pool: &Pool,
    worker: WorkerId,
    limit: usize,
    versions: &[FunctionVersion],
) -> StoreResult<Claims> {
    let doing = "claim trees";
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    let claim = sqlx::query(pool.sql(include_str!("../queries/tree_claim.sql")))
        .bind(worker.0)
        .bind(row_limit(limit))
        .bind(versions);
    let found = pool.run(doing, async |connection| claim.fetch_all(connection).await).await?;
    let mut claims = Claims::default();
    // There is always a row, with nulls for the tree if none was claimed.
    for row in &found {
        let row = Fields::of(row, doing);
        if !row.plain::<bool>("alive")? {
            return Err(fenced(worker));
        }
        claims.next_ready_at = row.opt_time("next_ready_at")?;
        if let Some(taken_over) = row.plain("taken_over")? {
            claims.trees.push(Claimed { row: rows::tree_row(&row)?, taken_over });
        }
    }
    Ok(claims)
}
