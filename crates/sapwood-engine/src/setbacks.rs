//! A store that went back: what this worker was told is durable is no longer there.
//!
//! After a failover to a replica that was behind, a restored backup, or a crash with `synchronous_commit=off`, commits are
//! gone that callers were told of. Nothing here can bring them back; it is said, with how much is known to be lost.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::LruCache;
use parking_lot::Mutex;
use sapwood_core::TreeId;

/// Trees that are remembered after they have left: the last seconds of a busy worker, in a few hundred kilobytes.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");

/// The commits that are known to be lost.
pub(crate) struct Setbacks {
    commits: AtomicU64,
    /// The last trees that left this worker, settled or released, with the revision that was acknowledged.
    left: Mutex<LruCache<TreeId, u64>>,
}

impl Default for Setbacks {
    fn default() -> Self {
        Self { commits: AtomicU64::default(), left: Mutex::new(LruCache::new(REMEMBERED)) }
    }
}

impl Setbacks {
    /// A tree has left this worker at a revision that was acknowledged.
    pub(crate) fn left(&self, tree: TreeId, committed: u64) {
        self.left.lock().push(tree, committed);
    }

    /// The trees that left last.
    pub(crate) fn all_left(&self) -> Vec<TreeId> {
        self.left.lock().iter().map(|(tree, _)| *tree).collect()
    }

    /// The store has these trees at these revisions, of those that left last.
    pub(crate) fn compare(&self, left: &[TreeId], stored: &[(TreeId, u64)]) {
        let stored: HashMap<_, _> = stored.iter().copied().collect();
        for tree in left {
            self.is_at(*tree, stored.get(tree).copied().unwrap_or_default());
        }
    }

    /// A tree that may have left this worker is at this revision in the store.
    pub(crate) fn is_at(&self, tree: TreeId, found: u64) {
        let mut left = self.left.lock();
        if let Some(committed) = left.peek(&tree).copied().filter(|committed| found < *committed) {
            // It is counted once.
            left.pop(&tree);
            drop(left);
            self.found(tree, committed, found);
        }
    }

    /// A tree is at revision `found`, and a commit of revision `committed` had been acknowledged.
    pub(crate) fn found(&self, tree: TreeId, committed: u64, found: u64) {
        let lost = committed.saturating_sub(found);
        self.commits.fetch_add(lost, Ordering::Relaxed);
        tracing::error!(%tree, committed, found, lost, "the store went back: commits that were acknowledged are lost");
    }

    /// How many commits are known to be lost.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R9: what the store lost is counted once, of trees that are behind and of those that are gone.
    #[test]
    fn lost_commits_of_trees_that_left_are_counted_once() {
        let setbacks = Setbacks::default();
        let trees: Vec<_> = (1..=4).map(|n| TreeId::from(uuid::Uuid::from_u128(n))).collect();
        for tree in &trees {
            setbacks.left(*tree, 5);
        }
        for _ in 0..2 {
            // As it was, behind, ahead; the last is gone.
            setbacks.compare(&setbacks.all_left(), &[(trees[0], 5), (trees[1], 3), (trees[2], 9)]);
            assert_eq!(setbacks.commits(), 2 + 5);
        }
        setbacks.is_at(trees[0], 4);
        assert_eq!(setbacks.commits(), 8);
    }
}
