//! The store's clock, as this worker knows it. What is due is due by that clock, for whoever claims a tree judges by it;
//! a worker's own clock of the day may be minutes away from it.
//!
//! Each answer that tells the store's time was given between the sending of its call and its arrival, both read from this
//! worker's monotonic clock. So the two clocks are a known length apart, within that interval, and what a worker waits
//! for is a length. If the store's clock is set, the next answer shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::environment::Environment;

/// By how much the store's clock must have been set for waits to be computed anew: well above the delays of a network,
/// below what a person would notice.
const STEP_US: i64 = 20_000;

/// The store's clock.
pub(crate) struct StoreClock {
    environment: Arc<dyn Environment>,
    /// How far the store's time is ahead of the monotonic clock, in microseconds.
    offset_us: AtomicI64,
}

/// A time that the store told, with when it was asked and when it had answered, by the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) now: Timestamp,
    pub(crate) sent: Duration,
    pub(crate) answered: Duration,
}

impl StoreClock {
    /// The clock of a store that has just told its time.
    pub(crate) fn new(environment: Arc<dyn Environment>, told: Told) -> Self {
        Self { environment, offset_us: AtomicI64::new(told.offsets().1) }
    }

    /// The store's time now.
    pub(crate) fn now(&self) -> Timestamp {
        let us = micros(self.environment.monotonic()).saturating_add(self.offset_us.load(Ordering::Acquire));
        Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX)
    }

    /// How long it is until a time of the store's clock; zero if that has passed.
    pub(crate) fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.now())).unwrap_or_default()
    }

    /// The store told its time. Returns whether its clock was set since.
    pub(crate) fn told(&self, told: Told) -> bool {
        let (least, most) = told.offsets();
        let known = self.offset_us.load(Ordering::Acquire);
        let offset = known.clamp(least, most.max(least));
        self.offset_us.store(offset, Ordering::Release);
        offset.abs_diff(known) > STEP_US.unsigned_abs()
    }
}

impl Told {
    /// The least and the most by which the store's time can be ahead of the monotonic clock.
    fn offsets(&self) -> (i64, i64) {
        let now = self.now.as_microsecond();
        (now - micros(self.answered), now - micros(self.sent))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use parking_lot::Mutex;
    use sapwood_core::TreeId;

    use super::*;

    /// Only its monotonic clock is asked for.
    #[derive(Default)]
    struct ByHand(Mutex<Duration>);

    impl Environment for ByHand {
        fn now(&self) -> Timestamp {
            unreachable!("the time of day here says nothing of the store's")
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock()
        }

        fn random(&self) -> u64 {
            unreachable!("nothing here is random")
        }

        fn tree_id(&self) -> TreeId {
            unreachable!("nothing here is a tree")
        }

        fn spawn(&self, _: BoxFuture<'static, ()>) {
            unreachable!("nothing here runs")
        }

        fn spawn_apart(&self, _: String, _: BoxFuture<'static, ()>) -> std::io::Result<()> {
            unreachable!("nothing here runs")
        }
    }

    fn told(second: i64, sent_ms: u64, answered_ms: u64) -> Told {
        let now = Timestamp::from_second(second).expect("a time");
        Told { now, sent: Duration::from_millis(sent_ms), answered: Duration::from_millis(answered_ms) }
    }

    /// S6: a wait is a length, whatever the day here is; a slow answer, or one that is behind, does not change it.
    #[test]
    fn the_stores_time_goes_on_by_the_monotonic_clock() {
        let hand = Arc::<ByHand>::default();
        let clock = StoreClock::new(Arc::clone(&hand) as Arc<dyn Environment>, told(1_000, 0, 4));
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        assert_eq!((clock.now(), clock.until(at(1_002))), (at(1_000), Duration::from_secs(2)));
        *hand.0.lock() = Duration::from_secs(2);
        assert_eq!((clock.now(), clock.until(at(1_002))), (at(1_002), Duration::ZERO));
        assert!(!clock.told(told(1_000, 0, 2_000)), "an answer that took two seconds says no more than that");
        assert_eq!(clock.now(), at(1_002));
    }

    /// S6: if the store's clock is set, forward or back, what is due is due by that.
    #[test]
    fn a_step_of_the_stores_clock_is_noticed_and_followed() {
        let hand = Arc::<ByHand>::default();
        let clock = StoreClock::new(Arc::clone(&hand) as Arc<dyn Environment>, told(1_000, 0, 0));
        for second in [1_005, 997, 10_000] {
            assert!(clock.told(told(second, 0, 1)));
            let error = clock.now().duration_since(Timestamp::from_second(second).expect("a time"));
            assert!(error.as_millis().abs() <= 1, "{error:?}");
            assert!(!clock.told(told(second, 0, 1)));
        }
    }
}
