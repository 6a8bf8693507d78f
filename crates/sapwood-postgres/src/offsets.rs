//! The offsets of groups: how far each has read, and which member reads on.

use std::collections::HashMap;

use async_trait::async_trait;
use sapwood_core::broker::TopicPartition;
use sapwood_core::store::{AssignedPartition, GroupOffsets, StoreResult};
use sqlx::postgres::PgBindIterExt;

use crate::fields::Fields;
use crate::rows;
use crate::store::PostgresStore;

#[async_trait]
impl GroupOffsets for PostgresStore {
    async fn partition_assign(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> StoreResult<Vec<AssignedPartition>> {
        self.partitions("assign partitions", include_str!("../queries/partition_assign.sql"), group, partitions).await
    }

    async fn partition_read(&self, group: &str, partitions: &[TopicPartition]) -> StoreResult<Vec<AssignedPartition>> {
        self.partitions("read partitions", include_str!("../queries/partition_read.sql"), group, partitions).await
    }
}

impl PostgresStore {
    /// What a statement gives of these partitions, in the order in which they were asked for.
    async fn partitions(
        &self,
        doing: &'static str,
        statement: &'static str,
        group: &str,
        partitions: &[TopicPartition],
    ) -> StoreResult<Vec<AssignedPartition>> {
        let ask = sqlx::query(self.workers.sql(statement))
            .bind(group)
            .bind(partitions.iter().map(|partition| partition.topic.as_str()).bind_iter())
            .bind(partitions.iter().map(|partition| partition.partition).bind_iter())
            .bind(partitions.iter().map(|partition| partition.topic_id.as_deref().unwrap_or_default()).bind_iter());
        let found = self.workers.run(doing, async |connection| ask.fetch_all(connection).await).await?;
        let mut given = HashMap::with_capacity(found.len());
        for row in &found {
            let partition = rows::assigned_partition(&Fields::of(row, doing))?;
            given.insert(partition.partition.clone(), partition);
        }
        Ok(partitions.iter().filter_map(|partition| given.get(partition).cloned()).collect())
    }
}
