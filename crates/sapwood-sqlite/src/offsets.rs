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

/// Refuses if one of the partitions was assigned to another member since.
pub(crate) async fn require_epochs(db: &mut Db<'_>, group: &str, advances: &[OffsetAdvance]) -> StoreResult<()> {
    for advance in advances {
        let args = key(group, &advance.partition);
        let row = db.one(include_str!("../queries/group_offset_epoch.sql"), args).await?;
        let epoch = row.map(|row| Fields::of(&row).int()).transpose()?;
        if epoch != Some(advance.epoch) {
            let TopicPartition { topic, partition, .. } = &advance.partition;
            return Err(StoreError::new(
                StoreErrorKind::Refused,
                format!("partition {partition} of {topic} is assigned to another member of group {group}"),
            ));
        }
    }
    Ok(())
}

/// Writes offsets whose epochs were checked.
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
