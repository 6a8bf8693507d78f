//! What readers ask: rows, whole trees, lists, keys, outcomes.

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::TreeId;
use sapwood_core::store::{KeyScope, ListedTree, Reading, StoreResult, TreeFilter, TreeOutcome};
use sapwood_core::tree::{TreeRecord, TreeRow, TreeState};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::deadlines::Timely;
use crate::fields::{Fields, row_limit};
use crate::governing;
use crate::pool::Pool;
use crate::promises;
use crate::rows;
use crate::store::PostgresStore;

#[async_trait]
impl Reading for PostgresStore {
    async fn tree_row(&self, tree: TreeId) -> StoreResult<Option<TreeRow>> {
        let (found, late) = row(&self.readers, tree).await?;
        Ok(if self.settles(&late).await? { row(&self.readers, tree).await?.0 } else { found })
    }

    async fn tree_read(&self, tree: TreeId) -> StoreResult<Option<TreeRecord>> {
        let (found, late) = whole_tree(&self.readers, tree).await?;
        Ok(if self.settles(&late).await? { whole_tree(&self.readers, tree).await?.0 } else { found })
    }

    async fn tree_list(&self, filter: &TreeFilter) -> StoreResult<Vec<ListedTree>> {
        let (found, late) = list(&self.readers, filter).await?;
        Ok(if self.settles(&late).await? { list(&self.readers, filter).await?.0 } else { found })
    }

    async fn start_key_find(&self, scope: &KeyScope, key: &str) -> StoreResult<Option<TreeId>> {
        let find = sqlx::query_scalar(self.readers.sql(include_str!("../queries/start_key_find.sql")))
            .bind(scope.stored())
            .bind(key);
        let finding = self.readers.run("find a key", async |connection| find.fetch_optional(connection).await);
        let found: Option<Uuid> = finding.await?;
        Ok(found.map(TreeId::from))
    }

    async fn outcome_read(&self, tree: TreeId) -> StoreResult<Option<TreeOutcome>> {
        let (found, late) = outcome(&self.readers, tree).await?;
        Ok(if self.settles(&late).await? { outcome(&self.readers, tree).await?.0 } else { found })
    }
}

/// A tree's row as it is, for its owner.
pub(crate) async fn tree_row(pool: &Pool, tree: TreeId) -> StoreResult<Option<TreeRow>> {
    Ok(tree_row_now(pool, tree).await?.map(|(row, _)| row))
}

async fn row(pool: &Pool, tree: TreeId) -> StoreResult<Timely<Option<TreeRow>>> {
    let found = tree_row_now(pool, tree).await?;
    let late = found.iter().filter(|(row, now)| row.is_late(*now)).map(|(row, _)| row.id).collect();
    Ok((found.map(|(row, _)| row), late))
}

async fn tree_row_now(pool: &Pool, tree: TreeId) -> StoreResult<Option<(TreeRow, Timestamp)>> {
    let doing = "read a tree's row";
    let read = sqlx::query(pool.sql(include_str!("../queries/tree_row.sql"))).bind(tree.uuid());
    let row = pool.run(doing, async |connection| read.fetch_optional(connection).await).await?;
    row.map(|row| row_now(&Fields::of(&row, doing))).transpose()
}

/// A row, and the database's time.
fn row_now(row: &Fields<'_>) -> StoreResult<(TreeRow, Timestamp)> {
    Ok((rows::tree_row(row)?, row.time("now")?))
}

async fn whole_tree(pool: &Pool, tree: TreeId) -> StoreResult<Timely<Option<TreeRecord>>> {
    let doing = "read a tree";
    let row = sqlx::query(pool.sql(include_str!("../queries/tree_row.sql"))).bind(tree.uuid());
    let rest = sqlx::query(pool.sql(include_str!("../queries/tree_read.sql"))).bind(tree.uuid());
    let reading = async |connection: &mut PgConnection| {
        // One snapshot for all statements. It locks no row, so it holds up no commit.
        let mut snapshot = connection.begin_with("begin isolation level repeatable read, read only").await?;
        let row = row.fetch_optional(&mut *snapshot).await?;
        let mut found = Found::default();
        if row.is_some() {
            found.rest = rest.fetch_all(&mut *snapshot).await?;
            found.requests = governing::list(&mut snapshot, pool, tree, 0).await?;
            found.settled = promises::list(&mut snapshot, pool, tree, 0).await?;
        }
        snapshot.commit().await?;
        Ok((row, found))
    };
    let (row, found) = pool.run(doing, reading).await?;
    let Some(row) = row else { return Ok((None, Vec::new())) };
    let (row, now) = row_now(&Fields::of(&row, doing))?;
    let record = record(row, &found, doing)?;
    let late = record.is_late(now).then_some(tree);
    Ok((Some(record), late.into_iter().collect()))
}

async fn list(pool: &Pool, filter: &TreeFilter) -> StoreResult<Timely<Vec<ListedTree>>> {
    let doing = "list trees";
    let statement = match filter.function {
        None => include_str!("../queries/tree_list.sql"),
        Some(_) => include_str!("../queries/tree_list_by_function.sql"),
    };
    let statement = sqlx::query(pool.sql(statement))
        // No tree has the greatest UUID: its version is not 7.
        .bind(filter.before.map_or(Uuid::max(), TreeId::uuid))
        .bind(filter.state.map(TreeState::code))
        .bind(row_limit(filter.limit));
    let statement = match &filter.function {
        None => statement,
        Some(function) => statement.bind(function),
    };
    let found = pool.run(doing, async |connection| statement.fetch_all(connection).await).await?;
    let listed =
        |row| Ok(rows::tree_row_or_id(&Fields::of(row, doing))?.map_or_else(ListedTree::Unreadable, ListedTree::Row));
    let listed: Vec<ListedTree> = found.iter().map(listed).collect::<StoreResult<_>>()?;
    let now = found.first().map(|row| Fields::of(row, doing).time("now")).transpose()?;
    let is_late = |listed: &&ListedTree| matches!((listed, now), (ListedTree::Row(row), Some(now)) if row.is_late(now));
    let late = listed.iter().filter(is_late).map(ListedTree::id).collect();
    Ok((listed, late))
}

async fn outcome(pool: &Pool, tree: TreeId) -> StoreResult<Timely<Option<TreeOutcome>>> {
    let doing = "read an outcome";
    let read = sqlx::query(pool.sql(include_str!("../queries/outcome_read.sql"))).bind(tree.uuid());
    let row = pool.run(doing, async |connection| read.fetch_optional(connection).await).await?;
    let Some(row) = row else { return Ok((None, Vec::new())) };
    let row = Fields::of(&row, doing);
    let late = row.plain::<bool>("is_late")?.then_some(tree);
    Ok((Some(rows::tree_outcome(&row)?), late.into_iter().collect()))
}

/// What is found of a tree besides its own row.
#[derive(Default)]
struct Found {
    rest: Vec<PgRow>,
    requests: Vec<PgRow>,
    settled: Vec<PgRow>,
}

fn record(row: TreeRow, found: &Found, doing: &'static str) -> StoreResult<TreeRecord> {
    let requests = found.requests.iter().map(|row| governing::record(&Fields::of(row, doing)));
    let (requests, settled) = (requests.collect::<StoreResult<_>>()?, promises::settled(&found.settled, doing)?);
    let mut record =
        TreeRecord { row, invocations: Vec::new(), entries: Vec::new(), timers: Vec::new(), requests, settled };
    for row in &found.rest {
        let row = Fields::of(row, doing);
        match row.plain::<i32>("part")? {
            0 => record.invocations.push(rows::invocation_row(&row)?),
            1 => record.entries.push(rows::entry_of_tree(&row)?),
            _ => record.timers.push(rows::timer(&row)?),
        }
    }
    Ok(record)
}
