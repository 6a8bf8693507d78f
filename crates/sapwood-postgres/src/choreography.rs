//! Outbox, lanes, positions of consumers, and the store's own log.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sapwood_core::store::{
    Assigned, Choreography, LaneLease, LaneMove, LogRecord, LoggedRecord, OutboxEvent, OutboxRow, StoreResult,
    TopicPartition, headers_from_json, headers_to_json,
};
use sapwood_core::{EventId, WorkerId};
use sqlx::postgres::PgBindIterExt;

use crate::PostgresStore;
use crate::error::{failed, fenced};
use crate::rows::Reader;

#[async_trait]
impl Choreography for PostgresStore {
    async fn lanes_claim(&self, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>> {
        let doing = "lease lanes";
        let rows = sqlx::query(include_str!("../queries/lanes_claim.sql"))
            .bind(worker.0)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        let mut leases = Vec::with_capacity(rows.len());
        // There is always a row, with nulls where the worker holds no lane.
        for row in &rows {
            let row = Reader::new(row, doing);
            if !row.plain::<bool>("alive")? {
                return Err(fenced(worker));
            }
            if let Some(lane) = row.plain::<Option<i16>>("lane")? {
                let (epoch, cursor) = (row.plain("epoch")?, row.plain("cursor")?);
                leases.push(LaneLease { lane: lane.cast_unsigned(), epoch, cursor });
            }
        }
        Ok(leases)
    }

    async fn outbox_read(&self, lane: u16, after: i64, limit: usize) -> StoreResult<Vec<OutboxRow>> {
        let doing = "read the outbox";
        let rows = sqlx::query(include_str!("../queries/outbox_read.sql"))
            .bind(lane.cast_signed())
            .bind(after)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        rows.iter().map(|row| outbox_row(&Reader::new(row, doing))).collect()
    }

    async fn lanes_advance(&self, worker: WorkerId, moves: &[LaneMove]) -> StoreResult<Vec<u16>> {
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        let moved: Vec<i16> = sqlx::query_scalar(include_str!("../queries/lanes_advance.sql"))
            .bind(worker.0)
            .bind(moves.iter().map(|to| to.lane.cast_signed()).bind_iter())
            .bind(moves.iter().map(|to| to.epoch).bind_iter())
            .bind(moves.iter().map(|to| to.cursor).bind_iter())
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed("write cursors of lanes", error))?;
        let moved: HashSet<u16> = moved.into_iter().map(i16::cast_unsigned).collect();
        Ok(moves.iter().map(|to| to.lane).filter(|lane| !moved.contains(lane)).collect())
    }

    async fn lanes_release(&self, worker: WorkerId) -> StoreResult<()> {
        sqlx::query(include_str!("../queries/lanes_release.sql"))
            .bind(worker.0)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(|error| failed("give lanes back", error))
    }

    async fn intake_assign(&self, group: &str, partitions: &[TopicPartition]) -> StoreResult<Vec<Assigned>> {
        let doing = "take partitions";
        let rows = sqlx::query(include_str!("../queries/intake_assign.sql"))
            .bind(group)
            .bind(partitions.iter().map(|partition| partition.topic.as_str()).bind_iter())
            .bind(partitions.iter().map(|partition| partition.partition).bind_iter())
            .bind(partitions.iter().map(|partition| partition.topic_id.as_deref().unwrap_or_default()).bind_iter())
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        let assigned = rows
            .iter()
            .map(|row| assigned(&Reader::new(row, doing)))
            .collect::<StoreResult<HashMap<TopicPartition, Assigned>>>()?;
        // In the order asked. Every partition asked has a row: it was inserted or updated.
        Ok(partitions.iter().filter_map(|partition| assigned.get(partition).cloned()).collect())
    }

    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()> {
        if records.is_empty() {
            return Ok(());
        }
        sqlx::query(include_str!("../queries/log_append.sql"))
            .bind(records.iter().map(|record| record.topic.as_str()).bind_iter())
            .bind(records.iter().map(|record| record.key.as_str()).bind_iter())
            .bind(records.iter().map(|record| headers_to_json(&record.headers)).bind_iter())
            .bind(records.iter().map(|record| &record.content[..]).bind_iter())
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(|error| failed("append to the log", error))
    }

    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<Vec<LoggedRecord>> {
        let doing = "read the log";
        let rows = sqlx::query(include_str!("../queries/log_read.sql"))
            .bind(topic)
            .bind(offset)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(|error| failed(doing, error))?;
        rows.iter().map(|row| logged_record(&Reader::new(row, doing))).collect()
    }
}

fn outbox_row(row: &Reader<'_>) -> StoreResult<OutboxRow> {
    Ok(OutboxRow {
        seq: row.plain("seq")?,
        event: OutboxEvent {
            id: EventId::from(row.plain::<String>("id")?),
            topic: row.plain("topic")?,
            key: row.plain("key")?,
            lane: row.plain::<i16>("lane")?.cast_unsigned(),
            cloud_type: row.plain("cloud_type")?,
            source: row.plain("source")?,
            time: row.time("time")?,
            tree: row.tree("tree_id")?,
            correlation: row.plain("correlation")?,
            causation: row.plain("causation")?,
            traceparent: row.plain("traceparent")?,
            content: row.bytes("content")?,
        },
    })
}

fn assigned(row: &Reader<'_>) -> StoreResult<(TopicPartition, Assigned)> {
    let topic_id: String = row.plain("topic_id")?;
    let partition = TopicPartition {
        topic: row.plain("topic")?,
        partition: row.plain("partition")?,
        topic_id: (!topic_id.is_empty()).then_some(topic_id),
    };
    let assigned =
        Assigned { partition: partition.clone(), epoch: row.plain("epoch")?, next_offset: row.plain("next_offset")? };
    Ok((partition, assigned))
}

fn logged_record(row: &Reader<'_>) -> StoreResult<LoggedRecord> {
    let headers = headers_from_json(row.plain("headers")?).map_err(|error| row.unreadable("headers", error))?;
    Ok(LoggedRecord {
        offset: row.plain("offset")?,
        time: row.time("time")?,
        record: LogRecord {
            topic: row.plain("topic")?,
            key: row.plain("key")?,
            headers,
            content: row.bytes("content")?,
        },
    })
}
