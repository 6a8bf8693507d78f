//! The released trees that stay in memory with their bodies: the least recently used leave first, under a budget in
//! bytes.
//!
//! The size of a tree is an estimate from above of what the engine knows: the futures of its bodies, and all results that
//! these were given. What a body has built itself, behind pointers of its own, is not known.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;
use sapwood_core::TreeId;

use crate::options::CachePolicy;
use crate::tree::LiveTree;

/// Released trees with their bodies.
pub(crate) struct Cache {
    /// In bytes; `None` if every body leaves memory when it waits.
    budget: Option<NonZeroUsize>,
    kept: Mutex<Kept>,
}

struct Kept {
    trees: LruCache<TreeId, (Box<LiveTree>, usize)>,
    bytes: usize,
}

impl Cache {
    pub(crate) fn new(policy: CachePolicy) -> Self {
        let budget = match policy {
            CachePolicy::Bytes(bytes) => NonZeroUsize::new(bytes),
            CachePolicy::Evict => None,
        };
        Self { budget, kept: Mutex::new(Kept { trees: LruCache::unbounded(), bytes: 0 }) }
    }

    /// Takes a tree out.
    pub(crate) fn take(&self, id: TreeId) -> Option<Box<LiveTree>> {
        let mut kept = self.kept.lock();
        let (tree, bytes) = kept.trees.pop(&id)?;
        kept.bytes -= bytes;
        Some(tree)
    }

    /// Keeps a tree. Those that have to leave for it, perhaps itself, are dropped here: without the lock, because their
    /// bodies are an author's code.
    pub(crate) fn keep(&self, id: TreeId, mut tree: Box<LiveTree>) {
        let Some(budget) = self.budget else { return };
        let mut leaving = Vec::new();
        {
            let mut kept = self.kept.lock();
            let size = tree.bytes();
            kept.bytes += size;
            if let Some((_, (stale, bytes))) = kept.trees.push(id, (tree, size)) {
                kept.bytes -= bytes;
                leaving.push(stale);
            }
            while kept.bytes > budget.get()
                && let Some((_, (least, bytes))) = kept.trees.pop_lru()
            {
                kept.bytes -= bytes;
                leaving.push(least);
            }
        }
    }
}
