//! Times as databases keep them.

use jiff::Timestamp;

/// The same time in microseconds, which is all that is kept of it.
pub(crate) fn stored(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}
