//! Claiming trees.

use sapwood_core::store::{Claimed, Claims, OwnedTree, StoreResult, Suspects};
use sapwood_core::{FunctionVersion, TreeId, WorkerId};
use sqlx::postgres::PgBindIterExt as _;
use uuid::Uuid;

use crate::error::fenced;
use crate::fields::{Fields, row_limit};
use crate::pool::Pool;
use crate::rows;

pub(crate) async fn claim(
    pool: &Pool,
    worker: WorkerId,
    limit: usize,
    versions: &[FunctionVersion],
    suspects: Suspects,
) -> StoreResult<Claims> {
    let doing = "claim trees";
    let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
    let claim = sqlx::query(pool.sql(include_str!("../queries/tree_claim.sql")))
        .bind(worker.0)
        .bind(row_limit(limit))
        .bind(versions)
        .bind(row_limit(suspects.second))
        .bind(row_limit(suspects.further));
    let found = pool.run(doing, async |connection| claim.fetch_all(connection).await).await?;
    let mut claims = Claims::default();
    // There is always a row, with nulls for the tree if none was claimed.
    for row in &found {
        let row = Fields::of(row, doing);
        if !row.plain::<bool>("alive")? {
            return Err(fenced(worker));
        }
        // A time that cannot be read is not due before the next poll, which looks again.
        claims.next_ready_at = row.opt_time("next_ready_at").ok().flatten();
        if let Some(taken_over) = row.plain::<Option<bool>>("taken_over")? {
            // A count that cannot be read is no reason to suspect anything.
            let takeovers = if taken_over {
                row.plain::<i16>("takeovers").map_or(1, |n| u32::from(n.max(1).unsigned_abs()))
            } else {
                0
            };
            match rows::tree_row_or_id(&row)? {
                Ok(row) => claims.trees.push(Claimed { row, takeovers }),
                Err(unreadable) => claims.unreadable.push(unreadable),
            }
        }
    }
    Ok(claims)
}

/// The open trees of a worker.
pub(crate) async fn owned(
    pool: &Pool,
    worker: WorkerId,
    after: Option<TreeId>,
    limit: usize,
) -> StoreResult<Vec<OwnedTree>> {
    let doing = "list the trees of a worker";
    let list = sqlx::query(pool.sql(include_str!("../queries/tree_list_owned.sql")))
        .bind(worker.0)
        .bind(after.map_or(Uuid::nil(), |tree| tree.uuid()))
        .bind(row_limit(limit));
    let found = pool.run(doing, async |connection| list.fetch_all(connection).await).await?;
    let owned = found.iter().map(|row| {
        let row = Fields::of(row, doing);
        let revision = row.plain::<i64>("revision")?.cast_unsigned();
        Ok(OwnedTree {
            id: row.tree("id")?,
            revision,
            control: row.unsigned("control")?,
            inbox: row.unsigned("inbox")?,
        })
    });
    owned.collect()
}

/// The revisions of those of these trees that are there.
pub(crate) async fn revisions(pool: &Pool, trees: &[TreeId]) -> StoreResult<Vec<(TreeId, u64)>> {
    let doing = "read the revisions of trees";
    let read = sqlx::query(pool.sql(include_str!("../queries/tree_revision.sql")))
        .bind(trees.iter().map(|tree| tree.uuid()).bind_iter());
    let found = pool.run(doing, async |connection| read.fetch_all(connection).await).await?;
    let revisions = found.iter().map(|row| {
        let row = Fields::of(row, doing);
        Ok((row.tree("id")?, row.plain::<i64>("revision")?.cast_unsigned()))
    });
    revisions.collect()
}

/// Sets a tree aside that its owner cannot drive. Returns whether the worker owned it.
pub(crate) async fn set_aside(pool: &Pool, worker: WorkerId, tree: TreeId, reason: &str) -> StoreResult<bool> {
    let set_aside = sqlx::query_scalar(pool.sql(include_str!("../queries/tree_set_aside.sql")))
        .bind(worker.0)
        .bind(tree.uuid())
        .bind(reason);
    let doing = "set a tree aside";
    let owned: Option<bool> = pool.run(doing, async |connection| set_aside.fetch_optional(connection).await).await?;
    Ok(owned.is_some())
}
