//! What readers ask for, and get.

use bytes::Bytes;

use crate::TreeId;
use crate::tree::TreeState;

/// Which trees to list: newest first, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeFilter {
    /// Only those whose root is this function.
    pub function: Option<String>,
    /// Only those in this state.
    pub state: Option<TreeState>,
    /// Only those older than this one.
    pub before: Option<TreeId>,
    /// At most so many.
    pub limit: usize,
}

/// Where the root of a tree stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The tree's state.
    pub state: TreeState,
    /// The root's function.
    pub function: String,
    /// The root's version.
    pub version: u32,
    /// Attempts the root made.
    pub attempts: u32,
    /// The recorded result or error, once the tree is settled.
    pub value: Option<Bytes>,
}
