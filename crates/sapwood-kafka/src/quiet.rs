//! Passes on librdkafka's log lines, at a bounded rate.
//!
//! When a broker is down, every connection of every client logs errors several times per second. A caller that waits
//! for the broker learns of the outage from its call; the log gets one warning of each kind per half minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// The time in which one kind of warning is logged once: often enough to show that an outage goes on.
const PERIOD: Duration = Duration::from_secs(30);

/// Passes librdkafka's lines to `tracing`.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// When each kind of warning was last logged.
    warned: Mutex<HashMap<String, Instant>>,
}

impl Quiet {
    fn may_warn(&self, kind: &str) -> bool {
        let now = Instant::now();
        let mut warned = self.warned.lock();
        if warned.get(kind).is_some_and(|last| now.duration_since(*last) < PERIOD) {
            return false;
        }
        warned.insert(kind.to_owned(), now);
        true
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, kind: &str, line: &str) {
        let grave = level as i32 <= RDKafkaLogLevel::Warning as i32;
        if grave && self.may_warn(kind) {
            tracing::warn!(target: "sapwood_kafka::librdkafka", kind, "{line}");
        } else {
            tracing::debug!(target: "sapwood_kafka::librdkafka", kind, "{line}");
        }
    }

    // The same errors reach the calls that wait, or the log lines above.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "sapwood_kafka::librdkafka", %error, "{reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_of_warning_is_given_once_a_period() {
        let quiet = Quiet::default();
        assert!(quiet.may_warn("FAIL"));
        assert!(!quiet.may_warn("FAIL"));
        assert!(quiet.may_warn("MAXPOLL"));
    }
}
