//! Where time comes from, so that tests can control it. Leases and deadlines are judged by the database instead.

use std::time::Duration;

use jiff::Timestamp;

/// A source of the time of day.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The latest time that is recorded, the beginning of the year 9999: every store, and RFC 3339, can hold it, and it is
/// as good as never.
pub const LATEST: Timestamp = Timestamp::constant(253_370_764_800, 0);

/// The time after a wait, at most [`LATEST`].
#[must_use]
pub fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).map_or(LATEST, |time| time.min(LATEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S6: a wait of any length ends at a time that can be read back in each unit in which a store holds it.
    #[test]
    fn a_wait_ends_at_a_time_that_every_store_can_hold() {
        let now: Timestamp = "2026-11-28T12:00:00.5Z".parse().expect("a time");
        assert_eq!(after(now, Duration::from_millis(500)).to_string(), "2026-11-28T12:00:01Z");
        for wait in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(251_600_000_000)] {
            let end = after(now, wait);
            assert_eq!(end.to_string(), "9999-01-01T00:00:00Z");
            assert_eq!(Timestamp::from_microsecond(end.as_microsecond()).expect("a time"), end);
        }
    }
}
