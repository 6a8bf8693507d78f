//! A store that went back: what this worker was told is durable is no longer there.
//!
//! After a failover to a replica that was behind, a restored backup, or a crash with `synchronous_commit=off`, commits are
//! gone that callers were told of. Nothing here can bring them back; it is said, with how much is known to be lost.

use std::sync::atomic::{AtomicU64, Ordering};

use sapwood_core::TreeId;

/// The commits that are known to be lost.
#[derive(Default)]
pub(crate) struct Setbacks {
    commits: AtomicU64,
}

impl Setbacks {
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
