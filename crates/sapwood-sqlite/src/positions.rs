//! Positions of consumer groups: where each goes on in each partition, and under which assignment.

use async_trait::async_trait;
use sapwood_core::store::{Assigned, PositionMove, StoreError, StoreErrorKind, StoreResult, TopicPartition};

use crate::args::Args;
use crate::db::Db;
use crate::error::permanent;
use crate::fields::Fields;
use crate::work::Work;

/// Takes partitions for a group.
pub(crate) struct Assign {
    pub(crate) group: String,
    pub(crate) partitions: Vec<TopicPartition>,
}

#[async_trait]
impl Work for Assign {
    type Answer = Vec<Assigned>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<Assigned>> {
        let mut assigned = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            let args = key(&self.group, partition);
            let row = db.one(include_str!("../queries/position_assign.sql"), args).await?;
            let row = row.ok_or_else(|| permanent("SQLite gave an assignment no epoch"))?;
            let mut fields = Fields::of(&row);
            let (epoch, next_offset) = (fields.int()?, fields.opt_int()?);
            assigned.push(Assigned { partition: partition.clone(), epoch, next_offset });
        }
        Ok(assigned)
    }
}

/// Refuses where another member was assigned one of the partitions since.
pub(crate) async fn require_epochs(db: &mut Db<'_>, group: &str, moves: &[PositionMove]) -> StoreResult<()> {
    for step in moves {
        let args = key(group, &step.partition);
        let row = db.one(include_str!("../queries/position_epoch.sql"), args).await?;
        let epoch = row.map(|row| Fields::of(&row).int()).transpose()?;
        if epoch != Some(step.epoch) {
            let TopicPartition { topic, partition, .. } = &step.partition;
            return Err(StoreError::new(
                StoreErrorKind::Refused,
                format!("partition {partition} of {topic} is assigned to another member of group {group}"),
            ));
        }
    }
    Ok(())
}

/// Writes positions whose epochs were checked.
pub(crate) async fn advance(db: &mut Db<'_>, group: &str, moves: &[PositionMove]) -> StoreResult<()> {
    for step in moves {
        let args = key(group, &step.partition).int(step.next_offset);
        db.run(include_str!("../queries/position_move.sql"), args).await?;
    }
    Ok(())
}

fn key(group: &str, partition: &TopicPartition) -> Args {
    Args::of(5)
        .text(group)
        .text(partition.topic.as_str())
        .int(partition.partition)
        .text(partition.topic_id.as_deref().unwrap_or_default())
}
