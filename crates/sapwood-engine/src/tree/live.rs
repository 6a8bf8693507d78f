//! A tree in memory: its model, and the bodies of its functions. While no worker owns the tree, this is a cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use sapwood_core::Path;
use sapwood_core::tree::TreeRow;

use super::mailbox::Mailbox;
use super::model::Tree;
use super::node::NodeId;
use crate::activation::{Activation, StepEnd};

/// What a tree takes of memory besides its invocations: itself, its mailbox, its facts, the smallest size of its tables. As
/// measured, rounded up.
const TREE_BYTES: usize = 2 * 1024;

/// A tree in memory, with its bodies.
pub(crate) struct LiveTree {
    pub(crate) tree: Tree,
    /// The bodies that are in memory; any of them may be dropped while it waits.
    pub(crate) bodies: BTreeMap<NodeId, Activation>,
    /// The wakers of the bodies refer to it, so it must stay the same for as long as the bodies live.
    pub(crate) mailbox: Arc<Mailbox>,
    /// How steps ended that no turn has recorded, in the order in which they did.
    pub(crate) ends: Vec<(Path, StepEnd)>,
}

impl LiveTree {
    /// In a box: it goes from hand to hand.
    pub(crate) fn boxed(tree: Tree) -> Box<Self> {
        Box::new(Self { tree, bodies: BTreeMap::new(), mailbox: Arc::default(), ends: Vec::new() })
    }

    /// What it takes of memory, in bytes: an estimate from above of what is known of it.
    pub(crate) fn bytes(&mut self) -> usize {
        TREE_BYTES + self.tree.bytes(|id| self.bodies.get(&id).map_or(0, Activation::bytes))
    }

    /// Whether a claim that returned this row can go on with what is in memory: the claim itself is the only commit
    /// since, and no request was made.
    pub(crate) fn is_as(&self, row: &TreeRow) -> bool {
        self.tree.revision() + 1 == row.revision && self.tree.control() == row.control
    }
}
