//! Rows of the outbox, lanes, positions of consumers, and records of the store's own log.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{EventId, TreeId};

/// An event on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Its identity.
    pub id: EventId,
    /// Where it goes.
    pub topic: String,
    /// What its order is kept by.
    pub key: String,
    /// The lane of topic and key; see [`lane_of`].
    pub lane: u16,
    /// The CloudEvents type.
    pub cloud_type: String,
    /// The CloudEvents source.
    pub source: String,
    /// When it was emitted.
    pub time: Timestamp,
    /// The tree that emitted it.
    pub tree: TreeId,
    /// The same for everything that one beginning led to.
    pub correlation: String,
    /// The invocation that emitted it.
    pub causation: String,
    /// The W3C trace context at the emit.
    pub traceparent: Option<String>,
    /// The content: JSON.
    pub content: Bytes,
}

/// The lane of a topic and key: commit order is kept within a lane, so within a key.
///
/// FNV-1a, for its value is stored with the rows and must never change with a library.
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
    /// The count of its leases; a stale publisher's cursor is refused by it.
    pub epoch: i64,
    /// The last row that is known to be published; 0 before the first.
    pub cursor: i64,
}

/// A cursor to be written back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneMove {
    /// The lane.
    pub lane: u16,
    /// The epoch of the lease.
    pub epoch: i64,
    /// The last row that is published.
    pub cursor: i64,
}

/// A partition of a topic, of one incarnation of that topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The broker's id of the topic, where it has one: it tells a re-created topic from the old one (H8).
    pub topic_id: Option<String>,
}

/// A partition assigned to this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch of this assignment.
    pub epoch: i64,
    /// Where to go on; `None` for a partition the group has never read.
    pub next_offset: Option<i64>,
}

/// A record for the store's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub content: Bytes,
}

/// A record of the store's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRecord {
    /// Its place in its topic, counted from 0, ascending.
    pub offset: i64,
    /// When it was appended.
    pub time: Timestamp,
    /// The record.
    pub record: LogRecord,
}

/// The stored form of headers: a JSON array of pairs.
#[must_use]
pub fn headers_to_json(headers: &[(String, String)]) -> String {
    serde_json::to_string(headers).unwrap_or_else(|_| "[]".to_owned())
}

/// Reads the stored form of headers.
///
/// # Errors
/// What the decoder says of text that is no array of pairs.
pub fn headers_from_json(text: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
    serde_json::from_str(text)
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
