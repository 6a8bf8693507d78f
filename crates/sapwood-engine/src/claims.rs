//! Claims trees that are ready and nobody's: woken by hints and by what this worker knows to be due, with a slow
//! jittered poll as backstop.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::engine::Inner;

/// Trees of one claim at most: enough to spread the round trip, few enough to leave some to others.
const BATCH_TREES: usize = 100;

/// Trees loaded at once: as many as a store's readers serve without a queue.
const LOADS: usize = 8;

/// How soon a claim that failed is made again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How soon a claim follows another at least, where nothing more is ready: clocks differ, and a tree that is due by
/// this clock may not be by the database's.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// What wakes the claims.
#[derive(Default)]
pub(crate) struct ClaimSignal {
    raised: Notify,
    due: Mutex<BinaryHeap<Reverse<Timestamp>>>,
}

impl ClaimSignal {
    /// Something may be ready now.
    pub(crate) fn raise(&self) {
        self.raised.notify_one();
    }

    /// Something will be ready at `at`.
    pub(crate) fn due(&self, at: Timestamp) {
        let mut due = self.due.lock();
        let is_first = due.peek().is_none_or(|Reverse(first)| at < *first);
        due.push(Reverse(at));
        drop(due);
        if is_first {
            self.raised.notify_one();
        }
    }

    /// Forgets what is due by now; tells what is due next.
    fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let mut due = self.due.lock();
        while due.peek().is_some_and(|Reverse(first)| *first <= now) {
            due.pop();
        }
        due.peek().map(|Reverse(first)| *first)
    }
}

/// Claims until the engine drains.
pub(crate) async fn run(engine: Arc<Inner>) {
    let versions = engine.registry().versions();
    let mut answer_was_lost = false;
    while !engine.is_draining() {
        let now = engine.options().clock.now();
        let mut next = engine.claim_signal.next_after(now);
        match engine.store().trees_claim(engine.worker(), BATCH_TREES, &versions).await {
            Ok(claims) => {
                if std::mem::take(&mut answer_was_lost)
                    && let Err(error) = engine.reload_strays().await
                {
                    engine.store_failed(&error);
                    answer_was_lost = true;
                }
                let is_full = claims.trees.len() >= BATCH_TREES;
                futures::stream::iter(claims.trees)
                    .for_each_concurrent(LOADS, |claimed| engine.run_claimed(claimed))
                    .await;
                if is_full {
                    continue;
                }
                next = [next, claims.next_ready_at].into_iter().flatten().min();
            }
            Err(error) => {
                engine.store_failed(&error);
                // It may have been made all the same: then its trees are this worker's, and nobody drives them.
                answer_was_lost = true;
                next = now.checked_add(AGAIN_AFTER).ok();
            }
        }
        let pause = pause(&engine, next);
        tokio::time::sleep(PAUSE_MIN).await;
        tokio::select! {
            () = engine.claim_signal.raised.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Until what is due next, at most the backstop, which is jittered so that workers do not come together.
fn pause(engine: &Inner, next: Option<Timestamp>) -> Duration {
    let backstop = engine.options().poll.mul_f64(0.75 + 0.5 * crate::random::fraction());
    let Some(next) = next else { return backstop };
    let until = next.duration_since(engine.options().clock.now());
    Duration::try_from(until).unwrap_or_default().min(backstop)
}
