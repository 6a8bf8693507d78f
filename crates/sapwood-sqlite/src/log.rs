//! The store's own log: the broker of the embedded default.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sapwood_core::store::{LogRecord, LoggedRecord, StoreResult, headers_from_json, headers_to_json};
use sqlx::sqlite::SqliteRow;

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;
use crate::error::{permanent, unreadable};
use crate::fields::Fields;
use crate::work::Work;

static LOG_INSERT: Bulk = Bulk::rows(include_str!("../queries/log_insert.sql"));

/// Appends records, in order within each topic.
pub(crate) struct AppendLog(pub(crate) Vec<LogRecord>);

#[async_trait]
impl Work for AppendLog {
    type Answer = ();

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<()> {
        let mut wanted = BTreeMap::<&str, i64>::new();
        for record in &self.0 {
            *wanted.entry(&record.topic).or_default() += 1;
        }
        let mut next = BTreeMap::new();
        for (topic, count) in wanted {
            let args = Args::of(2).text(topic).int(count);
            let row = db.one(include_str!("../queries/log_extend.sql"), args).await?;
            let row = row.ok_or_else(|| permanent("SQLite gave a log no offset"))?;
            next.insert(topic, Fields::of(&row).int()? - count);
        }
        let placed: Vec<_> = self.0.iter().map(|record| (take(&mut next, &record.topic), record)).collect();
        let now = db.now;
        db.insert(&LOG_INSERT, &placed, |(offset, record), args| {
            args.text(record.topic.as_str())
                .int(*offset)
                .time(now)
                .text(record.key.as_str())
                .text(headers_to_json(&record.headers))
                .blob(&record.content)
        })
        .await
    }
}

/// Reads records of a topic.
pub(crate) struct ReadLog {
    pub(crate) topic: String,
    pub(crate) offset: i64,
    pub(crate) limit: usize,
}

#[async_trait]
impl Work for ReadLog {
    type Answer = Vec<LoggedRecord>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<LoggedRecord>> {
        let args = Args::of(3).text(self.topic.as_str()).int(self.offset).count(self.limit);
        let rows = db.all(include_str!("../queries/log_read.sql"), args).await?;
        rows.iter().map(|row| logged(&self.topic, row)).collect()
    }
}

fn take<'t>(next: &mut BTreeMap<&'t str, i64>, topic: &'t str) -> i64 {
    let next = next.entry(topic).or_default();
    let offset = *next;
    *next += 1;
    offset
}

fn logged(topic: &str, row: &SqliteRow) -> StoreResult<LoggedRecord> {
    let mut fields = Fields::of(row);
    Ok(LoggedRecord {
        offset: fields.int()?,
        time: fields.time()?,
        record: LogRecord {
            topic: topic.to_owned(),
            key: fields.text()?,
            headers: headers_from_json(&fields.text()?).map_err(|_| unreadable("list of headers"))?,
            content: fields.blob()?,
        },
    })
}
