//! All trees, and two ways to find some of them without a walk over all: by owner, and by the time when they are due.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use jiff::Timestamp;
use sapwood_core::tree::TreeRow;
use sapwood_core::{FunctionVersion, TreeId, WorkerId};

use crate::tree::Tree;

/// The trees. They change only by [`Self::insert`] and [`Self::change`], so that the indexes always agree with them.
#[derive(Default)]
pub(crate) struct Forest {
    trees: BTreeMap<TreeId, Tree>,
    /// The open trees of each owner, alive or not.
    owned: BTreeMap<WorkerId, BTreeSet<TreeId>>,
    /// The open trees without an owner that have a time, by what they need.
    ready: BTreeMap<Option<FunctionVersion>, BTreeSet<(Timestamp, TreeId)>>,
}

/// The index in which a tree is.
#[derive(PartialEq, Eq)]
enum Place {
    Owned(WorkerId),
    Ready(Option<FunctionVersion>, Timestamp),
    /// Closed, or nothing in it will be due.
    None,
}

impl Forest {
    pub(crate) fn tree(&self, id: TreeId) -> Option<&Tree> {
        self.trees.get(&id)
    }

    /// Adds a tree; one that has its id already is replaced.
    pub(crate) fn insert(&mut self, tree: Tree) {
        let (id, place) = (tree.row.id, Place::of(&tree.row));
        if let Some(former) = self.trees.insert(id, tree) {
            self.leave(id, Place::of(&former.row));
        }
        self.enter(id, place);
    }

    /// Changes a tree; `None` if it is not there.
    pub(crate) fn change<T>(&mut self, id: TreeId, change: impl FnOnce(&mut Tree) -> T) -> Option<T> {
        let tree = self.trees.get_mut(&id)?;
        let before = Place::of(&tree.row);
        let changed = change(tree);
        let after = Place::of(&tree.row);
        if before != after {
            self.leave(id, before);
            self.enter(id, after);
        }
        Some(changed)
    }

    /// Trees older than this one, newest first; without one, all of them.
    pub(crate) fn newest_first(&self, before: Option<TreeId>) -> impl Iterator<Item = &Tree> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.trees.range((Bound::Unbounded, end)).rev().map(|(_, tree)| tree)
    }

    /// The workers that own open trees.
    pub(crate) fn owners(&self) -> impl Iterator<Item = WorkerId> {
        self.owned.keys().copied()
    }

    /// The open trees of a worker after this one, by id.
    pub(crate) fn owned_by(&self, worker: WorkerId, after: Option<TreeId>) -> impl Iterator<Item = &Tree> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let owned = self.owned.get(&worker).into_iter().flat_map(move |owned| owned.range((start, Bound::Unbounded)));
        owned.filter_map(|id| self.trees.get(id))
    }

    /// The trees without an owner that need this, or nothing, in the order in which they are due.
    pub(crate) fn ready(&self, needs: &Option<FunctionVersion>) -> impl Iterator<Item = (Timestamp, TreeId)> {
        self.ready.get(needs).into_iter().flatten().copied()
    }

    fn enter(&mut self, id: TreeId, place: Place) {
        match place {
            Place::Owned(worker) => {
                self.owned.entry(worker).or_default().insert(id);
            }
            Place::Ready(needs, at) => {
                self.ready.entry(needs).or_default().insert((at, id));
            }
            Place::None => {}
        }
    }

    fn leave(&mut self, id: TreeId, place: Place) {
        match place {
            Place::Owned(worker) => remove(&mut self.owned, worker, &id),
            Place::Ready(needs, at) => remove(&mut self.ready, needs, &(at, id)),
            Place::None => {}
        }
    }
}

impl Place {
    fn of(row: &TreeRow) -> Self {
        match (row.owner, row.ready_at) {
            _ if row.is_closed() => Self::None,
            (Some(worker), _) => Self::Owned(worker),
            (None, Some(at)) => Self::Ready(row.needs.clone(), at),
            (None, None) => Self::None,
        }
    }
}

/// Takes a value out of its set, and the set away if it was the last.
fn remove<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: K, value: &V) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use sapwood_core::store::NewTree;
    use sapwood_core::tree::{Cause, TreeState};

    use super::*;

    fn new_tree() -> NewTree {
        let (function, input, cause) = ("f".to_owned(), bytes::Bytes::new(), Cause::default());
        NewTree { id: TreeId::fresh(), function, version: 1, input, cause, deadline: None }
    }

    /// A tree is in one index at most, and in the one that its row says.
    #[test]
    fn a_tree_that_changes_is_found_where_its_row_says() {
        let mut forest = Forest::default();
        let (now, worker, new) = (Timestamp::UNIX_EPOCH, WorkerId(1), new_tree());
        let tree = new.id;
        forest.insert(Tree::new(&new, Some(worker), now));
        let places = |forest: &Forest| {
            let needs = Some(FunctionVersion::new("f", 2));
            (forest.owned_by(worker, None).count(), forest.ready(&None).count(), forest.ready(&needs).count())
        };
        assert_eq!(places(&forest), (1, 0, 0));
        let mut becomes = |owner, needs: Option<u32>, state| {
            forest.change(tree, |tree| {
                tree.row.owner = owner;
                tree.row.ready_at = Some(now);
                tree.row.needs = needs.map(|version| FunctionVersion::new("f", version));
                tree.row.state = state;
            });
            places(&forest)
        };
        assert_eq!(becomes(None, None, TreeState::Suspended), (0, 1, 0));
        assert_eq!(becomes(None, Some(2), TreeState::Suspended), (0, 0, 1));
        assert_eq!(becomes(Some(worker), None, TreeState::Running), (1, 0, 0));
        assert_eq!(becomes(Some(worker), None, TreeState::Resolved), (0, 0, 0));
        assert_eq!((forest.owned.len(), forest.ready.len()), (0, 0), "empty sets are taken away");
        assert_eq!(forest.change(TreeId::fresh(), |_| ()), None);
    }
}
