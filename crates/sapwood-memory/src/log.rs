//! The store's own log. Offsets are given under the lock, so within a topic their order is the order of the appends.

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::store::{EventLog, LogRecord, LoggedRecord, OrderedRows, StoreResult};

use crate::state::State;
use crate::store::MemoryStore;

#[async_trait]
impl EventLog for MemoryStore {
    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()> {
        self.handle().act(|state, now| {
            records.iter().for_each(|record| append(state, record, now));
            Ok(())
        })
    }

    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<OrderedRows<LoggedRecord>> {
        self.handle().act(|state, _| Ok(OrderedRows { rows: read(state, topic, offset, limit), unreadable: None }))
    }
}

fn append(state: &mut State, record: &LogRecord, now: Timestamp) {
    let logged = state.topics.entry(record.topic.clone()).or_default();
    let offset = logged.last().map_or(0, |last| last.offset + 1);
    logged.push(LoggedRecord { offset, time: now, record: record.clone() });
}

fn read(state: &State, topic: &str, offset: i64, limit: usize) -> Vec<LoggedRecord> {
    let logged = state.topics.get(topic).map_or(&[][..], Vec::as_slice);
    let first = logged.partition_point(|record| record.offset < offset);
    logged[first..].iter().take(limit).cloned().collect()
}
