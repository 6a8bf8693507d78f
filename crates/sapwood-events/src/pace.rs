//! How long to wait: growing after failures, and never in step with others.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use tokio::sync::watch;

/// Waits between failures: doubling from `first` to `most`, each drawn from the upper half of its bound, so that
/// those who failed together do not come back together, and none comes back at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// For what cannot be reached: soon at first, for most outages are short.
    pub(crate) const fn outage() -> Self {
        Self { first: Duration::from_millis(50), most: Duration::from_secs(5), failures: 0 }
    }

    /// For what was refused for good: somebody has to act, which takes its time.
    pub(crate) const fn refusal() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(60), failures: 0 }
    }

    /// The wait after one more failure.
    pub(crate) fn failed(&mut self) -> Duration {
        let bound = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(0.5 + fraction() / 2.0)
    }

    /// Begins anew.
    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// A period with a fifth of jitter.
pub(crate) fn jittered(period: Duration) -> Duration {
    period.mul_f64(0.9 + fraction() / 5.0)
}

/// A random number in `0.0..1.0`. The hasher's keys are random, which is all the randomness that waiting needs.
fn fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Returns once the owner of the tasks says stop, or is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it whoever could want this task to go on.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits; `false` where stop came first.
pub(crate) async fn rest(wait: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        () = stopped(stop) => false,
        () = tokio::time::sleep(wait) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_begin_anew() {
        let mut backoff = Backoff::outage();
        let mut bound = Duration::from_millis(50);
        for _ in 0..40 {
            let wait = backoff.failed();
            assert!(bound / 2 <= wait && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(Duration::from_secs(5));
        }
        backoff.succeeded();
        assert!(backoff.failed() <= Duration::from_millis(50));
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(10));
            assert!((9_000..=11_000).contains(&wait.as_millis()), "{wait:?}");
        }
    }
}
