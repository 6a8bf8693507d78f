//! A tree in memory: what it is, and the bodies of its functions. While no worker owns it, a cache.

use std::collections::HashMap;
use std::sync::Arc;

use sapwood_core::tree::TreeRow;

use super::mailbox::Mailbox;
use super::model::Tree;
use super::node::NodeId;
use crate::activation::Activation;

/// A tree in memory.
pub(crate) struct LiveTree {
    pub(crate) tree: Tree,
    /// The bodies that are in memory; any of them may be dropped while it waits.
    pub(crate) bodies: HashMap<NodeId, Activation>,
    /// Bodies in memory hold it too, so it lives as long as they do.
    pub(crate) mailbox: Arc<Mailbox>,
}

impl LiveTree {
    pub(crate) fn new(tree: Tree) -> Self {
        Self { tree, bodies: HashMap::new(), mailbox: Arc::default() }
    }

    /// Whether a claim that found this row can go on with what is in memory: nothing was committed in between.
    pub(crate) fn is_as(&self, row: &TreeRow) -> bool {
        self.tree.revision() + 1 == row.revision
    }
}
