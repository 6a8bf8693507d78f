//! A connection within a transaction, with statements for one row and for many.

use jiff::Timestamp;
use sapwood_core::store::StoreResult;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Either, Executor, SqliteConnection};
use tokio_stream::StreamExt;

use crate::args::Args;
use crate::bulk::Bulk;
use crate::error::classify;

/// What a piece of work has at hand: a connection, and the time it is judged by.
pub(crate) struct Db<'c> {
    connection: &'c mut SqliteConnection,
    /// The store's clock, read once per transaction.
    pub(crate) now: Timestamp,
}

impl<'c> Db<'c> {
    pub(crate) fn new(connection: &'c mut SqliteConnection, now: Timestamp) -> Self {
        Self { connection, now }
    }

    /// Carries a statement out; returns how many rows it touched.
    pub(crate) async fn run(&mut self, sql: &'static str, args: Args) -> StoreResult<u64> {
        let query = sqlx::query_with(sql, args.into_inner()?);
        query.execute(&mut *self.connection).await.map(|done| done.rows_affected()).map_err(classify)
    }

    /// The first row.
    pub(crate) async fn one(&mut self, sql: &'static str, args: Args) -> StoreResult<Option<SqliteRow>> {
        // Not `fetch_optional`, which resets the statement at its first row: an update has to run to its end.
        self.all(sql, args).await.map(|rows| rows.into_iter().next())
    }

    /// All rows.
    pub(crate) async fn all(&mut self, sql: &'static str, args: Args) -> StoreResult<Vec<SqliteRow>> {
        let query = sqlx::query_with(sql, args.into_inner()?);
        query.fetch_all(&mut *self.connection).await.map_err(classify)
    }

    /// Inserts a row for each item.
    pub(crate) async fn insert<T>(
        &mut self,
        bulk: &Bulk,
        items: &[T],
        fill: impl Fn(&T, Args) -> Args,
    ) -> StoreResult<()> {
        for (sql, piece) in bulk.cut(items) {
            let args = piece.iter().fold(Args::of(piece.len() * bulk.width()), |args, item| fill(item, args));
            let query = sqlx::query_with(AssertSqlSafe(sql), args.into_inner()?);
            query.execute(&mut *self.connection).await.map_err(classify)?;
        }
        Ok(())
    }

    /// Carries a statement out for each item; tells, in order, whether each touched a row.
    pub(crate) async fn each<T>(
        &mut self,
        bulk: &Bulk,
        items: &[T],
        fill: impl Fn(&T, Args) -> Args,
    ) -> StoreResult<Vec<bool>> {
        let mut touched = Vec::with_capacity(items.len());
        for (sql, piece) in bulk.cut(items) {
            let args = piece.iter().fold(Args::of(piece.len() * bulk.width()), |args, item| fill(item, args));
            let query = sqlx::query_with(AssertSqlSafe(sql), args.into_inner()?);
            let mut results = (&mut *self.connection).fetch_many(query);
            while let Some(result) = results.next().await {
                if let Either::Left(done) = result.map_err(classify)? {
                    touched.push(done.rows_affected() > 0);
                }
            }
        }
        Ok(touched)
    }
}

/// The time as it is stored, in microseconds.
pub(crate) fn stored(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}
