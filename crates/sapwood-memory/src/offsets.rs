//! The offsets of groups: how far each has read, and which member reads on.

use async_trait::async_trait;
use sapwood_core::broker::TopicPartition;
use sapwood_core::store::{AssignedPartition, GroupOffsets, OffsetAdvance, StoreResult};

use crate::error::refused;
use crate::state::{PartitionPlace, Standing, State};
use crate::store::MemoryStore;

#[async_trait]
impl GroupOffsets for MemoryStore {
    async fn partition_assign(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> StoreResult<Vec<AssignedPartition>> {
        self.handle().act(|state, _| Ok(partitions.iter().map(|partition| assign(state, group, partition)).collect()))
    }

    async fn partition_read(&self, group: &str, partitions: &[TopicPartition]) -> StoreResult<Vec<AssignedPartition>> {
        self.handle().act(|state, _| {
            let found = partitions.iter().filter_map(|partition| {
                let standing = state.partitions.get(&place_of(group, partition))?;
                Some(assigned(partition, standing))
            });
            Ok(found.collect())
        })
    }
}

/// Takes a partition under the next epoch, which refuses the member that had it before.
fn assign(state: &mut State, group: &str, partition: &TopicPartition) -> AssignedPartition {
    let standing = state.partitions.entry(place_of(group, partition)).or_default();
    standing.epoch += 1;
    assigned(partition, standing)
}

fn assigned(partition: &TopicPartition, standing: &Standing) -> AssignedPartition {
    AssignedPartition { partition: partition.clone(), epoch: standing.epoch, next_offset: standing.next_offset }
}

/// Refuses if one of the partitions was assigned to another member since, or if its offset is neither the one that the
/// advance follows nor, after an answer that was lost, the one that it leads to.
pub(crate) fn require_followed(state: &State, group: &str, advances: &[OffsetAdvance]) -> StoreResult<()> {
    for advance in advances {
        let TopicPartition { topic, partition, .. } = &advance.partition;
        let wrong = |why: String| Err(refused(format!("partition {partition} of {topic} in group {group} {why}")));
        let standing = state.partitions.get(&place_of(group, &advance.partition));
        let Some(standing) = standing.filter(|standing| standing.epoch == advance.epoch) else {
            return wrong("is assigned to another member".to_owned());
        };
        let offset = standing.next_offset;
        if offset != advance.after && offset != Some(advance.next_offset) {
            return wrong(format!("is at {offset:?}, and the batch follows {:?}", advance.after));
        }
    }
    Ok(())
}

/// Writes offsets that were checked.
pub(crate) fn advance(state: &mut State, group: &str, advances: &[OffsetAdvance]) {
    for advance in advances {
        if let Some(standing) = state.partitions.get_mut(&place_of(group, &advance.partition)) {
            standing.next_offset = Some(advance.next_offset);
        }
    }
}

fn place_of(group: &str, TopicPartition { topic, partition, topic_id }: &TopicPartition) -> PartitionPlace {
    (group.to_owned(), topic.clone(), *partition, topic_id.clone().unwrap_or_default())
}
