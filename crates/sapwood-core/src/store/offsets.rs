//! How far each group has read. The store is the truth, not the broker.

use async_trait::async_trait;

use super::StoreResult;
use crate::broker::TopicPartition;

/// The offsets of groups.
#[async_trait]
pub trait GroupOffsets {
    /// Takes partitions for `group`, giving each the next epoch; returns where to go on in each.
    async fn partition_assign(&self, group: &str, partitions: &[TopicPartition])
    -> StoreResult<Vec<AssignedPartition>>;

    /// How these partitions stand, without taking any: the epoch of the last assignment of each, and where to go on. One
    /// that was never assigned is left out.
    async fn partition_read(&self, group: &str, partitions: &[TopicPartition]) -> StoreResult<Vec<AssignedPartition>>;
}

/// A partition assigned to this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch of this assignment.
    pub epoch: i64,
    /// Where to go on; `None` for a partition the group has never read.
    pub next_offset: Option<i64>,
}

/// The new offset of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAdvance {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch of the assignment under which the batch was read.
    pub epoch: i64,
    /// The offset that this one follows, as the store last told it; `None` if it had none. A member that remembers more
    /// than the store, which may have gone back, must not make it pass over anything.
    pub after: Option<i64>,
    /// The offset to go on with.
    pub next_offset: i64,
}
