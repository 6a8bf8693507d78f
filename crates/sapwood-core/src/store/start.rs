//! Starts: trees whose existence others may contest.

use bytes::Bytes;

use super::TopicPartition;
use crate::TreeId;
use crate::tree::Cause;

/// A tree to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTree {
    /// Its identity, made by the starter.
    pub id: TreeId,
    /// The root's function.
    pub function: String,
    /// The root's version.
    pub version: u32,
    /// The root's input: a JSON object of the parameters.
    pub input: Bytes,
    /// What led to it.
    pub cause: Cause,
}

/// A start, with the key that makes it happen once.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The tree; also its root invocation, which has not begun.
    pub tree: NewTree,
    /// The key that only one tree can hold.
    pub key: StartKey,
}

/// A unique key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartKey {
    /// Who gave it.
    pub scope: KeyScope,
    /// The key: a caller's id, or an event's source and id.
    pub key: String,
    /// The digest of the canonical input; see [`crate::canonical`].
    pub digest: [u8; 32],
}

/// Who gave a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyScope {
    /// A caller who starts a tree.
    Caller,
    /// A consumer that starts a tree: the key is the operation's place.
    Operation,
    /// An event taken in by a group.
    Group(String),
}

impl KeyScope {
    /// The stored form.
    #[must_use]
    pub fn stored(&self) -> String {
        match self {
            Self::Caller => "caller".to_owned(),
            Self::Operation => "operation".to_owned(),
            Self::Group(group) => format!("group:{group}"),
        }
    }
}

/// What a start came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// The tree was created, at revision 0 and owned as the starter says.
    Created,
    /// The key is held already.
    Existing {
        /// By this tree.
        tree: TreeId,
        /// Whose root is this function.
        function: String,
        /// Whether the digests are equal; if not, the inputs are compared.
        same_digest: bool,
    },
}

/// A poll batch of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Intake {
    /// The group.
    pub group: String,
    /// Where the group goes on, a partition each.
    pub positions: Vec<PositionMove>,
    /// The trees the events start, in the order of arrival. Two of one batch may have one key: the first wins.
    pub starts: Vec<Start>,
}

/// The new position of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionMove {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch of the assignment under which the batch was read.
    pub epoch: i64,
    /// The offset to go on with.
    pub next_offset: i64,
}
