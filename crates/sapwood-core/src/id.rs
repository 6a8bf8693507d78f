//! Identities: of trees, of invocations within a tree, of workers, of events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A tree's identity: a UUID version 7, so that keys are ordered by time of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TreeId(Uuid);

impl TreeId {
    /// A fresh identity.
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// The UUID within.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for TreeId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TreeId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The life of one worker process (or of one engine handle); never used again after it ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub i64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker-{}", self.0)
    }
}

/// The place of an operation in its function's program order, counted from 0.
pub type Position = u32;

/// An invocation's identity within its tree: the positions from the root down to it.
///
/// The root is the empty path; the child called at position 3 of the root is `/3`, a child of that at position 0 is
/// `/3/0`. A path comes from program order alone: no clock, no random, no process takes part (SEMANTICS R1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Path(Vec<Position>);

impl Path {
    /// The root of a tree.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The child called at `position`.
    #[must_use]
    pub fn child(&self, position: Position) -> Self {
        let mut positions = Vec::with_capacity(self.0.len() + 1);
        positions.extend_from_slice(&self.0);
        positions.push(position);
        Self(positions)
    }

    /// The caller; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// The position in the caller at which this invocation was called; `None` for the root.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.last().copied()
    }

    /// Levels below the root; 0 for the root.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// The stored form: the depth in one byte, then each position in four, big-endian.
    ///
    /// The bytes sort by depth first, so the direct children of one invocation are one contiguous range
    /// ([`Self::children_range`]) however large the subtrees below them are (R11).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 4 * self.0.len());
        bytes.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        for position in &self.0 {
            bytes.extend_from_slice(&position.to_be_bytes());
        }
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`PathError`] where the bytes are not what [`Self::to_bytes`] writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        let (depth, rest) = bytes.split_first().ok_or(PathError)?;
        if rest.len() != 4 * usize::from(*depth) {
            return Err(PathError);
        }
        let positions = rest.chunks_exact(4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
        Ok(Self(positions.collect()))
    }

    /// The first and the last stored form a direct child can have; both inclusive.
    #[must_use]
    pub fn children_range(&self) -> (Vec<u8>, Vec<u8>) {
        (self.child(0).to_bytes(), self.child(Position::MAX).to_bytes())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|position| write!(f, "/{position}"))
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let rest = text.strip_prefix('/').ok_or(PathError)?;
        if rest.is_empty() {
            return Ok(Self::root());
        }
        rest.split('/').map(|part| part.parse().map_err(|_| PathError)).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Vec<Position>> for Path {
    fn from(positions: Vec<Position>) -> Self {
        Self(positions)
    }
}

/// Text or bytes that are no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of an invocation")]
pub struct PathError;

/// A domain event's identity: unique within its source and the same on every re-execution (SEMANTICS E3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// The event emitted at `position` of the invocation at `path`.
    #[must_use]
    pub fn of(tree: TreeId, path: &Path, position: Position) -> Self {
        Self(format!("{tree}:{}", path.child(position)))
    }

    /// The text of the identity.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for EventId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_its_stored_form() {
        for path in [Path::root(), Path::root().child(0), Path::root().child(7).child(70_000)] {
            assert_eq!(Path::from_bytes(&path.to_bytes()), Ok(path.clone()));
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        assert_eq!(Path::from_bytes(&[1, 0]), Err(PathError));
    }

    /// E3: an event's identity tells its tree, its invocation and its position apart.
    #[test]
    fn no_two_emits_share_an_identity() {
        let (tree, other) = (TreeId::fresh(), TreeId::fresh());
        let (root, child) = (Path::root(), Path::root().child(3));
        let ids = [
            EventId::of(tree, &root, 3),
            EventId::of(tree, &root, 4),
            EventId::of(tree, &child, 3),
            EventId::of(tree, &child, 4),
            EventId::of(other, &root, 3),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(EventId::of(tree, &child, 3), ids[2]);
    }

    #[test]
    fn the_direct_children_are_one_range_of_stored_forms() {
        let parent = Path::root().child(2);
        let (first, last) = parent.children_range();
        let inside = |path: &Path| (first.clone()..=last.clone()).contains(&path.to_bytes());
        assert!(inside(&parent.child(9)));
        assert!(!inside(&parent));
        assert!(!inside(&parent.child(9).child(0)), "a grandchild");
        assert!(!inside(&Path::root().child(3).child(9)), "a cousin");
    }
}
