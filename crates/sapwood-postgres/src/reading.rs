//! What readers ask.

use async_trait::async_trait;
use sapwood_core::TreeId;
use sapwood_core::store::{KeyScope, Outcome, Reading, StoreResult, TreeFilter};
use sapwood_core::tree::{InvocationRow, TreeRecord, TreeRow, TreeState};
use sqlx::postgres::PgRow;
use sqlx::{Executor, Postgres};
use uuid::Uuid;

use crate::PostgresStore;
use crate::error::failed;
use crate::rows::Reader;

#[async_trait]
impl Reading for PostgresStore {
    async fn tree_row(&self, tree: TreeId) -> StoreResult<Option<TreeRow>> {
        tree_row(&self.pool, tree).await
    }

    async fn tree_read(&self, tree: TreeId) -> StoreResult<Option<TreeRecord>> {
        let doing = "read a tree";
        let lost = |error| failed(doing, error);
        // One snapshot for both statements. (Readers lock nothing and hold nobody up.)
        let mut snapshot =
            self.pool.begin_with("begin isolation level repeatable read, read only").await.map_err(lost)?;
        let Some(row) = tree_row(&mut *snapshot, tree).await? else { return Ok(None) };
        let rows = sqlx::query(include_str!("../queries/tree_read.sql"))
            .bind(tree.uuid())
            .fetch_all(&mut *snapshot)
            .await
            .map_err(lost)?;
        snapshot.commit().await.map_err(lost)?;
        record(row, &rows, doing).map(Some)
    }

    async fn tree_list(&self, filter: &TreeFilter) -> StoreResult<Vec<TreeRow>> {
        let doing = "list trees";
        let statement = match filter.function {
            None => include_str!("../queries/tree_list.sql"),
            Some(_) => include_str!("../queries/tree_list_of_function.sql"),
        };
        let statement = sqlx::query(statement)
            .bind(filter.before.map_or(Uuid::max(), TreeId::uuid))
            .bind(filter.state.map(TreeState::code))
            .bind(i64::try_from(filter.limit).unwrap_or(i64::MAX));
        let statement = match &filter.function {
            None => statement,
            Some(function) => statement.bind(function),
        };
        let rows = statement.fetch_all(&self.pool).await.map_err(|error| failed(doing, error))?;
        rows.iter().map(|row| Reader::new(row, doing).tree_row()).collect()
    }

    async fn key_find(&self, scope: &KeyScope, key: &str) -> StoreResult<Option<TreeId>> {
        let found: Option<Uuid> = sqlx::query_scalar(include_str!("../queries/key_find.sql"))
            .bind(scope.stored())
            .bind(key)
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| failed("find a key", error))?;
        Ok(found.map(TreeId::from))
    }

    async fn outcome_read(&self, tree: TreeId) -> StoreResult<Option<Outcome>> {
        let doing = "read an outcome";
        let row = sqlx::query(include_str!("../queries/outcome_read.sql"))
            .bind(tree.uuid())
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        let Some(row) = row else { return Ok(None) };
        let row = Reader::new(&row, doing);
        Ok(Some(Outcome {
            state: row.tree_state("state")?,
            function: row.plain("function")?,
            version: row.unsigned("version")?,
            attempts: row.unsigned("attempt")?,
            value: row.bytes_or_null("value")?,
        }))
    }
}

async fn tree_row<'c>(executor: impl Executor<'c, Database = Postgres>, tree: TreeId) -> StoreResult<Option<TreeRow>> {
    let doing = "read a tree's row";
    let row = sqlx::query(include_str!("../queries/tree_row.sql"))
        .bind(tree.uuid())
        .fetch_optional(executor)
        .await
        .map_err(|error| failed(doing, error))?;
    row.map(|row| Reader::new(&row, doing).tree_row()).transpose()
}

fn record(row: TreeRow, rows: &[PgRow], doing: &'static str) -> StoreResult<TreeRecord> {
    let mut record = TreeRecord { row, invocations: Vec::new(), entries: Vec::new(), timers: Vec::new() };
    for row in rows {
        let row = Reader::new(row, doing);
        match row.plain::<i32>("part")? {
            0 => record.invocations.push(InvocationRow {
                invocation: row.invocation()?,
                created_at: row.time("at")?,
                settled_at: row.time_or_null("settled_at")?,
            }),
            1 => record.entries.push((row.path()?, row.time("at")?, row.entry()?)),
            _ => record.timers.push(row.timer()?),
        }
    }
    Ok(record)
}
