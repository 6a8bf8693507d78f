//! The outbox: events that wait to be published, and the lanes in which workers publish them.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{OrderedRows, StoreResult};
use crate::{EventId, TreeId, WorkerId};

/// Lanes of events that wait to be published.
#[async_trait]
pub trait Outbox {
    /// Leases lanes that no live worker publishes, at most `limit`; returns all lanes the worker then has.
    async fn lane_claim(&self, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>>;

    /// Rows of a lane after `after`, in order, at most `limit`.
    async fn outbox_read(&self, lane: u16, after: i64, limit: usize) -> StoreResult<OrderedRows<OutboxRow>>;

    /// Writes back how far lanes are published; returns the lanes that did not move: those that were lost to another publisher,
    /// and those that have no row at the new cursor, because the store went back since it was read.
    async fn lane_advance(&self, worker: WorkerId, advances: &[LaneAdvance]) -> StoreResult<Vec<u16>>;

    /// Releases all lanes of a worker.
    async fn lane_release(&self, worker: WorkerId) -> StoreResult<()>;
}

/// An event on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Its identity.
    pub id: EventId,
    /// The topic to which it goes.
    pub topic: String,
    /// The key by which its order is kept.
    pub key: String,
    /// The lane of topic and key, by [`lane_of`].
    pub lane: u16,
    /// The CloudEvents type.
    pub cloud_type: String,
    /// The CloudEvents source.
    pub source: String,
    /// When it was emitted.
    pub time: Timestamp,
    /// The tree that emitted it.
    pub tree: TreeId,
    /// The same for everything that one start led to.
    pub correlation: String,
    /// The invocation that emitted it.
    pub causation: String,
    /// The W3C trace context at the emit.
    pub traceparent: Option<String>,
    /// The content: JSON.
    pub content: Bytes,
}

/// What the names of an event's headers, its id, its time and the framing of a record take at most, in bytes.
const ENVELOPE_BYTES: usize = 512;

impl OutboxEvent {
    /// Its size as a record with headers, in bytes; at most so much.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Self { topic, key, cloud_type, source, correlation, causation, traceparent, content, .. } = self;
        let texts = [topic, key, cloud_type, source, correlation, causation].into_iter().chain(traceparent);
        ENVELOPE_BYTES + content.len() + self.id.as_str().len() + texts.map(String::len).sum::<usize>()
    }

    /// Refuses what no build emits: an event that no consumer could route, or tell from another, because a part of its
    /// identity is empty or has control characters.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let parts = [
            ("event_id", self.id.as_str()),
            ("topic", &self.topic),
            ("cloud_type", &self.cloud_type),
            ("source", &self.source),
        ];
        match parts.into_iter().find(|(_, text)| text.is_empty() || text.contains(char::is_control)) {
            Some((column, text)) => Err(format!("column `{column}` has {text:?}, which identifies nothing")),
            None => Ok(()),
        }
    }
}

/// The lane of a topic and key: commit order is kept within a lane, so within a key.
///
/// FNV-1a, because its value is stored with the rows and must never change with a library.
#[must_use]
pub fn lane_of(topic: &str, key: &str, lanes: u16) -> u16 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = topic.as_bytes().iter().chain(&[0]).chain(key.as_bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    // The remainder is below `lanes`, so it fits.
    (hash % u64::from(lanes.max(1))) as u16
}

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its place in its lane: ascending in commit order, gaps mean nothing.
    pub seq: i64,
    /// The event.
    pub event: OutboxEvent,
}

/// A lane that a worker publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneLease {
    /// The lane.
    pub lane: u16,
    /// The count of its leases; by it a stale publisher is refused.
    pub epoch: i64,
    /// The `seq` of the last row that is known to be published; 0 before the first.
    pub published: i64,
}

/// How far a lane is published, to be written back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneAdvance {
    /// The lane.
    pub lane: u16,
    /// The epoch of the lease.
    pub epoch: i64,
    /// The `seq` of the last row that is published.
    pub published: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_stable_and_spread() {
        assert_eq!(lane_of("orders.events", "order-42", 16), lane_of("orders.events", "order-42", 16));
        let mut seen = [0_u32; 16];
        for n in 0..1_600 {
            seen[usize::from(lane_of("orders.events", &format!("order-{n}"), 16))] += 1;
        }
        assert!(seen.iter().all(|count| (50..=150).contains(count)), "{seen:?}");
    }
}
