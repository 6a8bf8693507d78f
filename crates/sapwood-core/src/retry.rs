//! How often something is attempted, and how long to wait between attempts. Pure: chance comes in as a value.

use std::time::Duration;

/// How often something is attempted, and how long it waits between: doubling from `first` to `most`, with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included; at least 1.
    pub attempts: u32,
    /// The longest wait before the second attempt.
    pub first: Duration,
    /// The longest wait before any attempt.
    pub most: Duration,
}

impl RetryPolicy {
    /// A step's default: it talks to the outside, which often needs a moment.
    pub const STEP: Self = Self::new(10, Duration::from_millis(100), Duration::from_secs(60));
    /// A function's default: its steps have been retried already.
    pub const FUNCTION: Self = Self::new(3, Duration::from_millis(100), Duration::from_secs(60));
    /// A consumer's default: its event is a dead letter after that, so it gets more attempts.
    pub const CONSUMER: Self = Self::new(10, Duration::from_millis(100), Duration::from_secs(60));

    /// A policy of these numbers.
    #[must_use]
    pub const fn new(attempts: u32, first: Duration, most: Duration) -> Self {
        Self { attempts, first, most }
    }

    /// The wait after attempt `failed` (1 is the first), or `None` if no attempt is left.
    ///
    /// `fraction` is a random number in `0.0..=1.0`: full jitter takes that part of the bound, so that what failed
    /// together does not come back together.
    #[must_use]
    pub fn backoff(&self, failed: u32, fraction: f64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let bound = doubled(self.first, self.most, failed.saturating_sub(1));
        Some(bound.mul_f64(fraction.clamp(0.0, 1.0)))
    }
}

/// What becomes of a function whose attempts are over after an error that another attempt might have mended (SEMANTICS F8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExhausted {
    /// It settles with its last error.
    #[default]
    Reject,
    /// It is parked, and waits for an operator who retries it.
    Pause,
}

/// The waits for something that does not answer, without a last attempt: doubling from `first` to `most`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits between these bounds.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// The wait after one more failure: from the upper half of its bound, so that what failed together does not come
    /// back together, and nothing comes back at once. `fraction` is a random number in `0.0..=1.0`.
    pub fn failed(&mut self, fraction: f64) -> Duration {
        let bound = doubled(self.first, self.most, self.failures);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(0.5 + fraction.clamp(0.0, 1.0) / 2.0)
    }

    /// The next failure is the first again.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// A period, longer or shorter by up to a tenth, so that several processes do not act in step. `fraction` is a random
/// number in `0.0..=1.0`.
#[must_use]
pub fn jittered(period: Duration, fraction: f64) -> Duration {
    period.mul_f64(0.9 + fraction.clamp(0.0, 1.0) / 5.0)
}

fn doubled(first: Duration, most: Duration, times: u32) -> Duration {
    // 31 doublings of the shortest wait pass every sensible bound; more would overflow the factor.
    first.saturating_mul(1_u32 << times.min(31)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_until_the_most_and_ends_with_the_attempts() {
        let policy = RetryPolicy::new(5, Duration::from_millis(100), Duration::from_millis(300));
        let waits: Vec<_> = (1..=5).map(|failed| policy.backoff(failed, 1.0)).collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(waits, [ms(100), ms(200), ms(300), ms(300), None]);
        assert_eq!(policy.backoff(1, 0.0), Some(Duration::ZERO));
    }

    #[test]
    fn a_backoff_grows_to_its_bound_and_begins_anew_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50), ms(300));
        let waits: Vec<_> = (0..5).map(|_| backoff.failed(1.0)).collect();
        assert_eq!(waits, [ms(50), ms(100), ms(200), ms(300), ms(300)]);
        assert_eq!(backoff.failed(0.0), ms(150), "never less than half of the bound");
        backoff.succeeded();
        assert_eq!(backoff.failed(1.0), ms(50));
        for _ in 0..100 {
            assert!(backoff.failed(1.0) <= ms(300));
        }
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let period = Duration::from_secs(10);
        assert_eq!([0.0, 0.5, 1.0].map(|fraction| jittered(period, fraction).as_millis()), [9_000, 10_000, 11_000]);
    }
}
