//! A clock that goes with the machine's until a test makes it jump.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sapwood_core::clock::Clock;

/// The machine's time and an offset that only grows.
///
/// It does not stand still: leases are renewed by threads that wait in real time, and would end under a frozen clock
/// that is moved by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    offset_us: AtomicI64,
}

impl ManualClock {
    /// A clock that says what the machine's says.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Jumps forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("a jump of less than 292,000 years");
        self.offset_us.fetch_add(by, Ordering::SeqCst);
    }

    /// How far it is ahead of the machine's clock.
    #[must_use]
    pub fn offset(&self) -> Duration {
        Duration::from_micros(self.offset_us.load(Ordering::SeqCst).unsigned_abs())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_micros(self.offset_us.load(Ordering::SeqCst))
    }
}
