//! Trees that may be killing workers: what a worker may take over of them at once (C4).
//!
//! A tree is a suspect if it is taken over for the second time in a row without a commit of its own in between. After a
//! worker died twice, that may be one that kills, and ten thousand that happened to be there. So they are let in one by
//! one at first; each that commits, or has run for a while, lets two follow, so that the innocent are soon all at work. A
//! tree that is taken over for the third time was among few: from then on it runs alone. At the fifth it is parked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sapwood_core::TreeId;
use sapwood_core::store::Suspects;
use tokio::sync::Notify;

/// From this takeover in a row on, a tree is a suspect.
pub(crate) const SUSPECT_FROM: u32 = 2;

/// From this one on, it runs alone among them.
const ALONE_FROM: u32 = 3;

/// At this one it is parked instead of run.
pub(crate) const PARKED_AT: u32 = 5;

/// A suspect that has run for so long no longer holds up the next: what kills a process does so at once, as a rule.
const HOLDS_UP_FOR: Duration = Duration::from_secs(10);

/// The suspects of one worker.
pub(crate) struct Quarantine {
    state: Mutex<State>,
    /// Whether any suspect runs here; asked at each commit of each tree.
    has_any: AtomicBool,
    /// Raised when more may be taken over.
    freed: Notify,
}

struct State {
    running: HashMap<TreeId, Running>,
    /// How many may run at once that were taken over for the second time.
    window: usize,
}

#[derive(Clone, Copy)]
struct Running {
    takeovers: u32,
    /// By the monotonic clock.
    since: Duration,
}

impl Default for Quarantine {
    fn default() -> Self {
        let state = State { running: HashMap::new(), window: 1 };
        Self { state: Mutex::new(state), has_any: AtomicBool::new(false), freed: Notify::new() }
    }
}

impl Quarantine {
    /// What a claim may take over at `now`.
    pub(crate) fn allows(&self, now: Duration) -> Suspects {
        let state = self.state.lock();
        if state.running.values().any(|running| running.takeovers >= ALONE_FROM) {
            return Suspects::NONE;
        }
        let held_up = |running: &&Running| now.saturating_sub(running.since) < HOLDS_UP_FOR;
        let holding = state.running.values().filter(held_up).count();
        Suspects { second: state.window.saturating_sub(holding), further: usize::from(state.running.is_empty()) }
    }

    /// A suspect was claimed at `now`.
    pub(crate) fn admit(&self, tree: TreeId, takeovers: u32, now: Duration) {
        self.state.lock().running.insert(tree, Running { takeovers, since: now });
        self.has_any.store(true, Ordering::Release);
    }

    /// A tree has committed: it is no suspect any longer.
    pub(crate) fn committed(&self, tree: TreeId) {
        if self.has_any.load(Ordering::Acquire) && self.remove(tree) {
            self.state.lock().window += 1;
            self.freed.notify_one();
        }
    }

    /// A tree is no longer driven here.
    pub(crate) fn left(&self, tree: TreeId) {
        if self.has_any.load(Ordering::Acquire) && self.remove(tree) {
            self.freed.notify_one();
        }
    }

    /// Waits until more may be taken over.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn remove(&self, tree: TreeId) -> bool {
        let mut state = self.state.lock();
        let was_there = state.running.remove(&tree).is_some();
        self.has_any.store(!state.running.is_empty(), Ordering::Release);
        was_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn tree(n: u128) -> TreeId {
        TreeId::from(uuid::Uuid::from_u128(n))
    }

    fn allows(quarantine: &Quarantine, now: Duration) -> (usize, usize) {
        let Suspects { second, further } = quarantine.allows(now);
        (second, further)
    }

    /// C4: ten thousand that were there by chance are at work after a few rounds, each of which commits.
    #[test]
    fn the_innocent_are_let_in_faster_and_faster() {
        let quarantine = Quarantine::default();
        let (mut admitted, mut rounds) = (0, 0);
        while admitted < 10_000 {
            let (second, _) = allows(&quarantine, NOW);
            let batch: Vec<TreeId> = (admitted..admitted + second).map(|n| tree(n as u128)).collect();
            batch.iter().for_each(|id| quarantine.admit(*id, 2, NOW));
            assert_eq!(allows(&quarantine, NOW), (0, 0), "no more before one of them commits");
            batch.iter().for_each(|id| quarantine.committed(*id));
            admitted += batch.len();
            rounds += 1;
        }
        assert!(rounds < 20, "{rounds}");
    }

    /// C4: from the third takeover on a tree runs alone among the suspects, until it commits.
    #[test]
    fn a_tree_that_was_there_three_times_runs_alone() {
        let quarantine = Quarantine::default();
        assert_eq!(allows(&quarantine, NOW), (1, 1));
        quarantine.admit(tree(1), 3, NOW);
        assert_eq!(allows(&quarantine, NOW + Duration::from_secs(3_600)), (0, 0), "however long it takes");
        quarantine.committed(tree(2));
        assert_eq!(allows(&quarantine, NOW), (0, 0), "another's commit says nothing of it");
        quarantine.committed(tree(1));
        assert_eq!(allows(&quarantine, NOW), (2, 1));
    }

    /// C4: one that works for hours holds up no other for more than a moment.
    #[test]
    fn a_suspect_that_has_run_for_a_while_holds_up_no_other() {
        let quarantine = Quarantine::default();
        quarantine.admit(tree(1), 2, NOW);
        assert_eq!(allows(&quarantine, NOW + HOLDS_UP_FOR / 2), (0, 0));
        assert_eq!(allows(&quarantine, NOW + HOLDS_UP_FOR), (1, 0));
        quarantine.left(tree(1));
        assert_eq!(allows(&quarantine, NOW), (1, 1), "it left, and says nothing of the others");
    }
}
