//! The store's own log, the broker of a context that has no other.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sapwood_core::store::{EventLog, LogRecord, LoggedRecord, OrderedRows, StoreResult};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;
use crate::error::permanent;
use crate::fields::Fields;
use crate::rows;
use crate::store::SqliteStore;
use crate::work::Work;

static LOG_RECORD_INSERT: Bulk = Bulk::rows(include_str!("../queries/log_record_insert.sql"));

#[async_trait]
impl EventLog for SqliteStore {
    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()> {
        self.writer().run(AppendLog(records.to_vec())).await
    }

    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<OrderedRows<LoggedRecord>> {
        self.read(ReadLog { topic: topic.to_owned(), offset, limit }).await
    }
}

struct AppendLog(Vec<LogRecord>);

#[async_trait]
impl Work for AppendLog {
    type Answer = ();

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<()> {
        let mut next = take_offsets(db, &self.0).await?;
        let rows: Vec<_> = self.0.iter().map(|record| (next_offset(&mut next, &record.topic), record)).collect();
        let now = db.now;
        db.insert(&LOG_RECORD_INSERT, &rows, |(offset, record), args| {
            args.text(record.topic.as_str())
                .int(*offset)
                .time(now)
                .text(record.key.as_str())
                .text(record.stored_headers())
                .blob(&record.content)
        })
        .await
    }
}

/// Takes offsets in the topics of records, one per record; returns the first one of each topic.
async fn take_offsets<'r>(db: &mut Db<'_>, records: &'r [LogRecord]) -> StoreResult<BTreeMap<&'r str, i64>> {
    let mut wanted = BTreeMap::<&str, i64>::new();
    for record in records {
        *wanted.entry(&record.topic).or_default() += 1;
    }
    let mut first = BTreeMap::new();
    for (topic, count) in wanted {
        let args = Args::of(2).text(topic).int(count);
        let row = db.one(include_str!("../queries/log_topic_extend.sql"), args).await?;
        let row = row.ok_or_else(|| permanent("SQLite gave a log no offset"))?;
        first.insert(topic, Fields::of(&row).int()? - count);
    }
    Ok(first)
}

fn next_offset<'t>(next: &mut BTreeMap<&'t str, i64>, topic: &'t str) -> i64 {
    let next = next.entry(topic).or_default();
    let offset = *next;
    *next += 1;
    offset
}

struct ReadLog {
    topic: String,
    offset: i64,
    limit: usize,
}

#[async_trait]
impl Work for ReadLog {
    type Answer = OrderedRows<LoggedRecord>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<OrderedRows<LoggedRecord>> {
        let args = Args::of(3).text(self.topic.as_str()).int(self.offset).count(self.limit);
        let found = db.all(include_str!("../queries/log_read.sql"), args).await?;
        rows::ordered(&found, |row| rows::logged_record(&self.topic, row))
    }
}
