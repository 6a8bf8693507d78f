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
        let doing = "assign partitions";
        let assign = sqlx::query(self.workers.sql(include_str!("../queries/partition_assign.sql")))
            .bind(group)
            .bind(partitions.iter().map(|partition| partition.topic.as_str()).bind_iter())
            .bind(partitions.iter().map(|partition| partition.partition).bind_iter())
            .bind(partitions.iter().map(|partition| partition.topic_id.as_deref().unwrap_or_default()).bind_iter());
        let found = self.workers.run(doing, async |connection| assign.fetch_all(connection).await).await?;
        let mut assigned = HashMap::with_capacity(found.len());
        for row in &found {
            let partition = rows::assigned_partition(&Fields::of(row, doing))?;
            assigned.insert(partition.partition.clone(), partition);
        }
        // In the order in which they were asked for. Each has a row, because it was inserted or updated.
        Ok(partitions.iter().filter_map(|partition| assigned.get(partition).cloned()).collect())
    }
}
