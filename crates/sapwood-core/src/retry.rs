//! Retry policies: how often, and how long between.

use std::time::Duration;

/// How often something is tried, and how long it waits between: doubling from `first` to `most`, with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included; at least 1.
    pub attempts: u32,
    /// The longest wait before the second try.
    pub first: Duration,
    /// The longest wait before any try.
    pub most: Duration,
}

impl RetryPolicy {
    /// A step's default: it talks to the outside, which often needs a moment.
    pub const STEP: Self = Self::new(10, Duration::from_millis(100), Duration::from_secs(60));
    /// A function's default: its steps have been retried already.
    pub const FUNCTION: Self = Self::new(3, Duration::from_millis(100), Duration::from_secs(60));
    /// A consumer's default; after it, a dead letter.
    pub const CONSUMER: Self = Self::new(10, Duration::from_millis(100), Duration::from_secs(60));

    /// A policy of these numbers.
    #[must_use]
    pub const fn new(attempts: u32, first: Duration, most: Duration) -> Self {
        Self { attempts, first, most }
    }

    /// The wait after the `failed`-th try (1 for the first), or `None` where no try is left.
    ///
    /// `fraction` is a random number in `0.0..=1.0`: full jitter takes that part of the bound, so that those who
    /// failed together do not come back together.
    #[must_use]
    pub fn backoff(&self, failed: u32, fraction: f64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let doublings = failed.saturating_sub(1).min(31);
        let bound = self.first.saturating_mul(1_u32 << doublings).min(self.most);
        Some(bound.mul_f64(fraction.clamp(0.0, 1.0)))
    }
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
}
