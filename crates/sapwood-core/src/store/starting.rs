//! Starts: trees whose existence others may contest.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{OffsetAdvance, StoreResult};
use crate::TreeId;
use crate::tree::Cause;

/// Starts trees whose existence is contested: with a caller's id, or by an event.
#[async_trait]
pub trait Starter: Send {
    /// Starts each tree whose key is free; returns for each what has its key.
    ///
    /// Idempotent: after an unknown outcome send the same again, with the same tree ids. A start whose own tree has
    /// the key already answers [`Started::Created`], as it would have the first time.
    async fn start(&mut self, starts: &[Start]) -> StoreResult<Vec<Started>>;

    /// Accepts a poll batch of events: offsets, keys for dedupe and new trees in one commit. Idempotent as
    /// [`Self::start`] is.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`](super::StoreErrorKind::Refused) if nothing was applied: the epoch of a partition is not
    /// the one of its last assignment, because another member has it, or the store's offset is neither the one that the
    /// batch follows nor the one that it leads to, because the store went back.
    async fn intake(&mut self, batch: &Intake) -> StoreResult<Vec<Started>>;
}

/// A tree that is to be created.
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
    /// When its root settles at the latest, if it has a deadline.
    pub deadline: Option<Timestamp>,
}

/// A start, with the key that makes it happen once.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The tree, and with it its root invocation, which has not run.
    pub tree: NewTree,
    /// The key that only one tree can have.
    pub key: StartKey,
}

/// A unique key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartKey {
    /// What gave it.
    pub scope: KeyScope,
    /// The key: a caller's id, or an event's source and id.
    pub key: String,
    /// The digest of the input's canonical JSON, by [`crate::json::canonical::digest`].
    pub digest: [u8; 32],
}

/// What gave a key; equal keys of different scopes are different keys.
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

/// What became of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// The tree of this start exists, at revision 0 and owned as the starter says; this call created it, or an
    /// earlier one with the same tree id whose answer was lost.
    Created,
    /// Another start has the key.
    Existing {
        /// The tree that has it.
        tree: TreeId,
        /// The function of its root.
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
    /// The offsets at which the group goes on: one per partition.
    pub offsets: Vec<OffsetAdvance>,
    /// The trees the events start, in the order of arrival. Two of one batch may have one key: the first wins.
    pub starts: Vec<Start>,
}
