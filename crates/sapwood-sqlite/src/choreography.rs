//! The role of relay, intake and log.

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{
    Assigned, Choreography, LaneLease, LaneMove, LogRecord, LoggedRecord, OutboxRow, StoreResult, TopicPartition,
};

use crate::lanes::{AdvanceLanes, ClaimLanes, ReadOutbox, ReleaseLanes};
use crate::log::{AppendLog, ReadLog};
use crate::positions::Assign;
use crate::store::SqliteStore;

#[async_trait]
impl Choreography for SqliteStore {
    async fn lanes_claim(&self, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>> {
        self.writer().run(ClaimLanes { worker, limit }).await
    }

    async fn outbox_read(&self, lane: u16, after: i64, limit: usize) -> StoreResult<Vec<OutboxRow>> {
        self.read(ReadOutbox { lane, after, limit }).await
    }

    async fn lanes_advance(&self, worker: WorkerId, moves: &[LaneMove]) -> StoreResult<Vec<u16>> {
        self.writer().run(AdvanceLanes { worker, moves: moves.to_vec() }).await
    }

    async fn lanes_release(&self, worker: WorkerId) -> StoreResult<()> {
        self.writer().run(ReleaseLanes(worker)).await
    }

    async fn intake_assign(&self, group: &str, partitions: &[TopicPartition]) -> StoreResult<Vec<Assigned>> {
        self.writer().run(Assign { group: group.to_owned(), partitions: partitions.to_vec() }).await
    }

    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()> {
        self.writer().run(AppendLog(records.to_vec())).await
    }

    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<Vec<LoggedRecord>> {
        self.read(ReadLog { topic: topic.to_owned(), offset, limit }).await
    }
}
