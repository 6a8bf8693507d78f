//! The store's own log, the broker of a context that has no other.

use async_trait::async_trait;
use sapwood_core::store::{EventLog, LogRecord, LoggedRecord, OrderedRows, StoreResult};
use sqlx::postgres::PgBindIterExt;

use crate::fields::row_limit;
use crate::rows;
use crate::store::PostgresStore;

#[async_trait]
impl EventLog for PostgresStore {
    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()> {
        if records.is_empty() {
            return Ok(());
        }
        let append = sqlx::query(self.workers.sql(include_str!("../queries/log_append.sql")))
            .bind(records.iter().map(|record| record.topic.as_str()).bind_iter())
            .bind(records.iter().map(|record| record.key.as_str()).bind_iter())
            .bind(records.iter().map(LogRecord::stored_headers).bind_iter())
            .bind(records.iter().map(|record| &record.content[..]).bind_iter());
        let appended = self.workers.run("append to the log", async |connection| append.execute(connection).await);
        appended.await.map(drop)
    }

    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<OrderedRows<LoggedRecord>> {
        let doing = "read the log";
        let read = sqlx::query(self.workers.sql(include_str!("../queries/log_read.sql")))
            .bind(topic)
            .bind(offset)
            .bind(row_limit(limit));
        let found = self.workers.run(doing, async |connection| read.fetch_all(connection).await).await?;
        rows::ordered(&found, doing, "log_offset", rows::logged_record)
    }
}
