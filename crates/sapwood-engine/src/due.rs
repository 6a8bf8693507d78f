//! What wakes the claims: hints, and what this worker knows to be due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// When a claim may find something.
///
/// Only what is due before the next poll is kept: that poll learns of everything later. So this does not grow with the
/// trees that sleep for a year.
pub(crate) struct Due {
    /// The longest time between two polls.
    horizon: Duration,
    /// Wakes the claims.
    raised: Notify,
    /// Times at which trees that this worker released are due, the earliest on top.
    times: Mutex<BinaryHeap<Reverse<Timestamp>>>,
}

impl Due {
    /// For a worker that polls at least this often.
    pub(crate) fn new(horizon: Duration) -> Self {
        Self { horizon, raised: Notify::new(), times: Mutex::default() }
    }

    /// Something may be ready now.
    pub(crate) fn raise(&self) {
        self.raised.notify_one();
    }

    /// Something will be ready at `at`, as seen at `now`.
    pub(crate) fn at(&self, at: Timestamp, now: Timestamp) {
        if Duration::try_from(at.duration_since(now)).is_ok_and(|until| until > self.horizon) {
            return;
        }
        let mut times = self.times.lock();
        let is_first = times.peek().is_none_or(|Reverse(first)| at < *first);
        times.push(Reverse(at));
        drop(times);
        if is_first {
            self.raised.notify_one();
        }
    }

    /// Forgets what is due by now; returns what is due next.
    pub(crate) fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let mut times = self.times.lock();
        while times.peek().is_some_and(|Reverse(first)| *first <= now) {
            times.pop();
        }
        times.peek().map(|Reverse(first)| *first)
    }

    /// Waits until something may be ready earlier than was known before.
    pub(crate) async fn raised(&self) {
        self.raised.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_next_is_the_earliest_that_has_not_passed() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let due = Due::new(Duration::from_secs(60));
        for second in [30, 10, 61, 20, 10] {
            due.at(at(second), at(0));
        }
        assert_eq!(due.next_after(at(9)), Some(at(10)));
        assert_eq!(due.next_after(at(10)), Some(at(20)));
        assert_eq!(due.next_after(at(29)), Some(at(30)));
        assert_eq!(due.next_after(at(30)), None, "what is due after the next poll is left to it");
    }
}
