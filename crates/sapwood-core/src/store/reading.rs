//! The queries of readers: rows, whole trees, lists, keys, outcomes.

use async_trait::async_trait;
use bytes::Bytes;

use super::{KeyScope, StoreResult, UnreadableTree};
use crate::TreeId;
use crate::tree::{Closing, TreeRecord, TreeRow, TreeState};

/// Trees, as readers see them.
///
/// No reader sees a promise pending whose deadline has passed by the database's clock: the read settles it first, under the
/// lock of the tree's row, gives it its completion number and moves the control counter on, so that the tree's owner finds
/// it settled. Then the read is made anew (D3).
#[async_trait]
pub trait Reading {
    /// A tree's row.
    ///
    /// # Errors
    /// [`Unreadable`](super::StoreErrorKind::Unreadable), here and below, if this build cannot read one of the rows.
    async fn tree_row(&self, tree: TreeId) -> StoreResult<Option<TreeRow>>;

    /// A whole tree, as of one moment.
    async fn tree_read(&self, tree: TreeId) -> StoreResult<Option<TreeRecord>>;

    /// Rows of trees, newest first. One that this build cannot read is named in its place.
    async fn tree_list(&self, filter: &TreeFilter) -> StoreResult<Vec<ListedTree>>;

    /// The tree that has a key.
    async fn start_key_find(&self, scope: &KeyScope, key: &str) -> StoreResult<Option<TreeId>>;

    /// The outcome of a tree's root; `None` if no tree has this id.
    async fn outcome_read(&self, tree: TreeId) -> StoreResult<Option<TreeOutcome>>;
}

/// A tree of a list.
#[expect(clippy::large_enum_variant, reason = "nearly every one is a row, and a box each would cost more")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedTree {
    /// Its row.
    Row(TreeRow),
    /// Its row cannot be read.
    Unreadable(UnreadableTree),
}

impl ListedTree {
    /// The tree.
    #[must_use]
    pub const fn id(&self) -> TreeId {
        match self {
            Self::Row(row) => row.id,
            Self::Unreadable(tree) => tree.id,
        }
    }

    /// Its row, if it can be read.
    #[must_use]
    pub fn row(self) -> Option<TreeRow> {
        match self {
            Self::Row(row) => Some(row),
            Self::Unreadable(_) => None,
        }
    }
}

/// Which trees to list: newest first, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeFilter {
    /// Only those whose root is this function.
    pub function: Option<String>,
    /// Only those in this state; those that timed out, whether they are closed or not.
    pub state: Option<TreeState>,
    /// Only those older than this one.
    pub before: Option<TreeId>,
    /// At most this many.
    pub limit: usize,
}

impl TreeFilter {
    /// Whether a tree in this state passes.
    #[must_use]
    pub fn has_state(&self, state: TreeState) -> bool {
        self.state.is_none_or(|only| only == state || (only, state) == (TreeState::TimedOut, TreeState::TimingOut))
    }
}

/// The state of a tree, with the outcome of its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeOutcome {
    /// The tree's state.
    pub state: TreeState,
    /// How far what its invocations undo has come.
    pub closing: Closing,
    /// The root's function.
    pub function: String,
    /// The root's version.
    pub version: u32,
    /// Attempts the root made.
    pub attempts: u32,
    /// The recorded result or error, once the tree is settled.
    pub outcome: Option<Bytes>,
}
