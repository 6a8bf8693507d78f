//! Claiming trees.

use sapwood_core::store::{Claimed, Claims, StoreResult};
use sapwood_core::{FunctionVersion, TreeId, WorkerId};
use sqlx::PgPool;

use crate::error::{failed, fenced};
use crate::fields::{Fields, row_limit};
use crate::rows;

pub(crate) async fn claim(
    pool: &PgPool,
    worker: WorkerId,
    limit: usize,
    versions: &[FunctionVersion],
) -> StoreResult<Claims> {
    let doing = "claim trees";
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    let found = sqlx::query(include_str!("../queries/tree_claim.sql"))
        .bind(worker.0)
        .bind(row_limit(limit))
        .bind(versions)
        .fetch_all(pool)
        .await
        .map_err(|error| failed(doing, error))?;
    let mut claims = Claims::default();
    // There is always a row, with nulls for the tree if none was claimed.
    for row in &found {
        let row = Fields::of(row, doing);
        if !row.plain::<bool>("alive")? {
            return Err(fenced(worker));
        }
        // A time that cannot be read is not due before the next poll, which looks again.
        claims.next_ready_at = row.opt_time("next_ready_at").ok().flatten();
        if let Some(taken_over) = row.plain("taken_over")? {
            match rows::tree_row_or_id(&row)? {
                Ok(row) => claims.trees.push(Claimed { row, taken_over }),
                Err(unreadable) => claims.unreadable.push(unreadable),
            }
        }
    }
    Ok(claims)
}

pub(crate) async fn set_aside(pool: &PgPool, worker: WorkerId, tree: TreeId, reason: &str) -> StoreResult<bool> {
    let owned: Option<bool> = sqlx::query_scalar(include_str!("../queries/tree_set_aside.sql"))
        .bind(worker.0)
        .bind(tree.uuid())
        .bind(reason)
        .fetch_optional(pool)
        .await
        .map_err(|error| failed("set a tree aside", error))?;
    Ok(owned.is_some())
}
