//! The store's own log, the broker of a context that has no other.

use async_trait::async_trait;
use sapwood_core::store::{EventLog, LogRecord, LoggedRecord, OrderedRows, StoreResult};
use sqlx::postgres::PgBindIterExt;

use crate::error::failed;
use crate::fields::row_limit;
use crate::rows;
use crate::store::PostgresStore;

#[async_trait]
impl EventLog for PostgresStore {
    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()> {
        if records.is_empty() {
            return Ok(());
        }
        sqlx::query(include_str!("../queries/log_append.sql"))
            .bind(records.iter().map(|record| record.topic.as_str()).bind_iter())
            .bind(records.iter().map(|record| record.key.as_str()).bind_iter())
            .bind(records.iter().map(LogRecord::stored_headers).bind_iter())
            .bind(records.iter().map(|record| &record.content[..]).bind_iter())
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(|error| failed("append to the log", error))
    }

    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<OrderedRows<LoggedRecord>> {
        let doing = "read the log";
        let found = sqlx::query(include_str!("../queries/log_read.sql"))
            .bind(topic)
            .bind(offset)
            .bind(row_limit(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        rows::ordered(&found, doing, "log_offset", rows::logged_record)
    }
}
