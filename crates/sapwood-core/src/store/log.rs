//! The store's own log: the broker of the embedded default.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{OrderedRows, StoreResult};

/// Topics in the store itself.
#[async_trait]
pub trait EventLog {
    /// Appends records. Within a topic, offsets follow commit order.
    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()>;

    /// Records of a topic from `offset` on, in order, at most `limit`.
    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<OrderedRows<LoggedRecord>>;
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

impl LogRecord {
    /// The stored form of its headers: a JSON array of pairs.
    #[must_use]
    pub fn stored_headers(&self) -> String {
        serde_json::to_string(&self.headers).unwrap_or_else(|_| "[]".to_owned())
    }

    /// Reads the stored form of headers.
    ///
    /// # Errors
    /// The decoder's error if the text is not an array of pairs.
    pub fn headers_of(stored: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
        serde_json::from_str(stored)
    }
}
