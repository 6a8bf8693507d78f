//! The broker port: how events leave a context and reach others.

use async_trait::async_trait;
use bytes::Bytes;

/// A partition of a topic, of one incarnation of that topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The broker's id of the topic, if it has one: it distinguishes a re-created topic from the old one (H8).
    pub topic_id: Option<String>,
}

/// A record as brokers carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The key: records of one key stay in order.
    pub key: String,
    /// The headers, CloudEvents attributes among them.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub content: Bytes,
}

/// A record as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key; other producers may send a record without one.
    pub key: Option<Bytes>,
    /// The headers; values that are not UTF-8 are left out.
    pub headers: Vec<(String, String)>,
    /// The content; empty for a tombstone.
    pub content: Bytes,
}

/// A broker of events.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// What and where the broker is, without secrets.
    fn describe(&self) -> String;

    /// Whether the broker answers.
    async fn ping(&self) -> Result<(), BrokerError>;

    /// Makes sure that the topics exist.
    async fn topics_ensure(&self, topics: &[String]) -> Result<(), BrokerError>;

    /// Publishes records, keeping their order within a key, and answers once each is acknowledged or refused: one
    /// result per record, in order.
    ///
    /// While the broker cannot be reached, this waits. Dropping the future ends the wait; the records may still be
    /// sent.
    async fn publish(&self, records: Vec<Record>) -> Vec<Result<(), BrokerError>>;

    /// Joins `group` on `topics`.
    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn Subscription>, BrokerError>;
}

/// A membership in a group. Dropping it leaves the group.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for what comes next. Cancel safe.
    ///
    /// A partition gives no records between [`Delivery::Assigned`] and [`Self::begin`].
    async fn next(&mut self) -> Result<Delivery, BrokerError>;

    /// Begins reading assigned partitions: at the offset, or without one at the oldest record.
    async fn begin(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), BrokerError>;

    /// Tells the broker how far the group has come; advisory, the store is the truth.
    async fn advise(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), BrokerError>;
}

/// What a subscription gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// These partitions are this member's from now on.
    Assigned(Vec<TopicPartition>),
    /// These partitions are no longer this member's.
    Revoked(Vec<TopicPartition>),
    /// Records of partitions that were begun, in order within each.
    Batch(Vec<Consumed>),
    /// This partition gives no more records for now, because the next one cannot be read. It is never passed over; the
    /// partition goes on by itself once it can be read.
    Stopped {
        /// The partition.
        partition: TopicPartition,
        /// The record, and what is wrong with it, in words.
        reason: String,
    },
}

/// An error of a broker.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BrokerError {
    kind: BrokerErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What an error of a broker asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerErrorKind {
    /// The broker cannot be reached, or not yet; the same again may succeed.
    Passing,
    /// This record, topic or permission is refused for good; others are not.
    Refused,
    /// The client no longer works; make a new one.
    Fatal,
}

impl BrokerError {
    /// An error of `kind`.
    pub fn new(kind: BrokerErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the error asks for.
    #[must_use]
    pub const fn kind(&self) -> BrokerErrorKind {
        self.kind
    }
}
