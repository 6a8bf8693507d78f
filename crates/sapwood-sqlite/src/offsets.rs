//! The offsets of groups: how far each has read, and which member reads on.

use async_trait::async_trait;
use sapwood_core::broker::TopicPartition;
use sapwood_core::store::{AssignedPartition, GroupOffsets, OffsetAdvance, StoreError, StoreErrorKind, StoreResult};

use crate::args::Args;
use crate::db::Db;
use crate::error::permanent;
use crate::fields::Fields;
use crate::store::SqliteStore;
use crate::work::Work;

#[async_trait]
impl GroupOffsets for SqliteStore {
    async fn partition_assign(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> StoreResult<Vec<AssignedPartition>> {
        self.writer().run(Assign { group: group.to_owned(), partitions: partitions.to_vec() }).await
    }

    async fn partition_read(&self, group: &str, partitions: &[TopicPartition]) -> StoreResult<Vec<AssignedPartition>> {
        self.read(Read { group: group.to_owned(), partitions: partitions.to_vec() }).await
    }
}

struct Assign {
    group: String,
    partitions: Vec<TopicPartition>,
}

#[async_trait]
impl Work for Assign {
    type Answer = Vec<AssignedPartition>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<AssignedPartition>> {
        let mut assigned = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            let args = key(&self.group, partition);
            let row = db.one(include_str!("../queries/partition_assign.sql"), args).await?;
            let row = row.ok_or_else(|| permanent("SQLite gave an assignment no epoch"))?;
            let mut fields = Fields::of(&row);
            let (epoch, next_offset) = (fields.int()?, fields.opt_int()?);
            assigned.push(AssignedPartition { partition: partition.clone(), epoch, next_offset });
        }
        Ok(assigned)
    }
}

struct Read {
    group: String,
    partitions: Vec<TopicPartition>,
}

#[async_trait]
impl Work for Read {
    type Answer = Vec<AssignedPartition>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<AssignedPartition>> {
        let mut found = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            found.extend(read(db, &self.group, partition).await?);
        }
        Ok(found)
    }
}

/// How a partition stands; `None` if it was never assigned.
async fn read(db: &mut Db<'_>, group: &str, partition: &TopicPartition) -> StoreResult<Option<AssignedPartition>> {
    let row = db.one(include_str!("../queries/partition_read.sql"), key(group, partition)).await?;
    let Some(row) = row else { return Ok(None) };
    let mut fields = Fields::of(&row);
    let (epoch, next_offset) = (fields.int()?, fields.opt_int()?);
    Ok(Some(AssignedPartition { partition: partition.clone(), epoch, next_offset }))
}

/// Refuses if one of the partitions was assigned to another member since, or if its offset is neither the one that the
/// advance follows nor, after an answer that was lost, the one that it leads to.
pub(crate) async fn require_followed(db: &mut Db<'_>, group: &str, advances: &[OffsetAdvance]) -> StoreResult<()> {
    for advance in advances {
        let TopicPartition { topic, partition, .. } = &advance.partition;
        let stored = read(db, group, &advance.partition).await?;
        let refused = |why: String| {
            let message = format!("partition {partition} of {topic} in group {group} {why}");
            Err(StoreError::new(StoreErrorKind::Refused, message))
        };
        match stored {
            Some(stored) if stored.epoch == advance.epoch => {
                let offset = stored.next_offset;
                if offset != advance.after && offset != Some(advance.next_offset) {
                    return refused(format!("is at {offset:?}, and the batch follows {:?}", advance.after));
                }
            }
            _ => return refused("is assigned to another member".to_owned()),
        }
    }
    Ok(())
}

/// Writes offsets that were checked.
pub(crate) async fn advance(db: &mut Db<'_>, group: &str, advances: &[OffsetAdvance]) -> StoreResult<()> {
    for advance in advances {
        let args = key(group, &advance.partition).int(advance.next_offset);
        db.run(include_str!("../queries/group_offset_advance.sql"), args).await?;
    }
    Ok(())
}

/// The key of a partition, with room for one more argument.
fn key(group: &str, partition: &TopicPartition) -> Args {
    Args::of(5)
        .text(group)
        .text(partition.topic.as_str())
        .int(partition.partition)
        .text(partition.topic_id.as_deref().unwrap_or_default())
}
