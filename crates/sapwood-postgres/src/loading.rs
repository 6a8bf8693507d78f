//! What a worker reads: a claimed tree, and all that one activation needs.

use sapwood_core::store::StoreResult;
use sapwood_core::tree::{InvocationImage, TreeImage};
use sapwood_core::{Path, TreeId};
use sqlx::PgConnection;

use crate::fields::Fields;
use crate::pool::Pool;
use crate::{governing, promises, reading, rows};

/// Reads what is needed to go on with a tree.
pub(crate) async fn tree(pool: &Pool, tree: TreeId) -> StoreResult<Option<TreeImage>> {
    let doing = "load a tree";
    // Only its owner loads it, and only its owner writes it, so two statements see the same tree.
    let Some(row) = reading::tree_row(pool, tree).await? else { return Ok(None) };
    let load = sqlx::query(pool.sql(include_str!("../queries/tree_load.sql"))).bind(tree.uuid());
    let found = pool.run(doing, async |connection| load.fetch_all(connection).await).await?;
    let mut image = TreeImage::of(row);
    for row in &found {
        let row = Fields::of(row, doing);
        match row.plain::<i32>("part")? {
            0 => image.take_up(rows::open_invocation(&row)?),
            1 => image.timers.push(rows::timer(&row)?),
            _ => image.nodes = usize::try_from(row.plain::<i64>("nodes")?).unwrap_or(usize::MAX),
        }
    }
    let (control, applied) = (image.row.control, image.row.applied);
    if control != applied {
        // Those up to the counter of the row that was read; a later one refuses the next commit.
        let list = async |connection: &mut PgConnection| governing::list(connection, pool, tree, applied).await;
        let requests = pool.run(doing, list).await?;
        let requests = requests.iter().map(|row| governing::record(&Fields::of(row, doing)));
        image.requests = requests
            .filter(|request| request.as_ref().map_or(true, |it| it.control <= control))
            .collect::<StoreResult<_>>()?;
    }
    if image.row.inbox > 0 {
        image.settled = promises::unrecorded(pool, tree, image.row.inbox).await?;
    }
    Ok(Some(image))
}

/// Reads all that one activation needs.
pub(crate) async fn invocation(pool: &Pool, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>> {
    let doing = "load an invocation";
    let (first, last) = path.children_range();
    let load = sqlx::query(pool.sql(include_str!("../queries/invocation_load.sql")))
        .bind(tree.uuid())
        .bind(path.to_bytes())
        .bind(first)
        .bind(last);
    let found = pool.run(doing, async |connection| load.fetch_all(connection).await).await?;
    let (mut invocation, mut children, mut entries, mut timers) = (None, Vec::new(), Vec::new(), Vec::new());
    for row in &found {
        let row = Fields::of(row, doing);
        match row.plain::<i32>("part")? {
            0 => invocation = Some(rows::invocation(&row)?),
            1 => children.push(rows::invocation(&row)?),
            2 => entries.push(rows::entry(&row)?),
            _ => timers.push(rows::timer(&row)?),
        }
    }
    Ok(invocation.map(|invocation| InvocationImage { invocation, entries, children, timers }))
}
