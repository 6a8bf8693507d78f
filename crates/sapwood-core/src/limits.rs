//! Bounds on a tree, so that one that grew by mistake fails by name instead of taking its worker down (SEMANTICS A2).

/// Bytes of the name of an operation, which is an author's text and goes into each of its entries.
pub const MAX_NAME_BYTES: usize = 1024;

/// The bounds of one context. Past a bound, the offending operation fails by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Levels of calls below a root.
    pub depth: usize,
    /// Invocations of one tree.
    pub nodes: usize,
    /// Calls of one invocation.
    pub fan_out: usize,
    /// Journal entries of one invocation.
    pub entries: usize,
    /// Bytes of one recorded value: an input, a result, an error.
    pub payload_bytes: usize,
    /// Bytes of one event with its key and headers; below the 1 MB that a Kafka broker takes by default.
    pub event_bytes: usize,
    /// Bytes that one poll of a body writes: the inputs of calls and the events between two awaits. All of it goes into one
    /// commit.
    pub poll_bytes: usize,
}

impl Default for Limits {
    /// The values of SEMANTICS A2: more than a tree needs that grew by design, less than what harms its worker.
    fn default() -> Self {
        Self {
            depth: 16,
            nodes: 10_000,
            fan_out: 1_000,
            entries: 10_000,
            payload_bytes: 1024 * 1024,
            event_bytes: 900 * 1024,
            poll_bytes: 64 * 1024 * 1024,
        }
    }
}

/// An operation would pass a bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{operation}: {what} would be {found}, the limit is {limit}")]
pub struct LimitError {
    /// The operation, such as `call reserve` or `step gateway`.
    pub operation: String,
    /// What is bounded: `depth`, `nodes`, `fan-out`, `entries`, `payload bytes`, `event bytes`, `bytes of the name`,
    /// `bytes of one poll`, `seconds until the deadline`.
    pub what: String,
    /// The size that it would reach.
    pub found: usize,
    /// The size allowed.
    pub limit: usize,
}
