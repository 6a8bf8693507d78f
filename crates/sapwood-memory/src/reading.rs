//! What readers ask: rows, whole trees, lists, keys, outcomes.

use async_trait::async_trait;
use sapwood_core::store::{Hint, KeyScope, ListedTree, Reading, StoreResult, TreeFilter, TreeOutcome};
use sapwood_core::tree::{TreeRecord, TreeRow};
use sapwood_core::{Path, TreeId};

use crate::error::unreadable;
use crate::forest::Forest;
use crate::store::MemoryStore;
use crate::tree::Tree;

#[async_trait]
impl Reading for MemoryStore {
    async fn tree_row(&self, tree: TreeId) -> StoreResult<Option<TreeRow>> {
        self.time_out(tree)?;
        self.handle().act(|state, _| Ok(state.forest.tree(tree).map(|tree| tree.row.clone())))
    }

    async fn tree_read(&self, tree: TreeId) -> StoreResult<Option<TreeRecord>> {
        self.time_out(tree)?;
        self.handle().act(|state, _| Ok(state.forest.tree(tree).map(record)))
    }

    async fn tree_list(&self, filter: &TreeFilter) -> StoreResult<Vec<ListedTree>> {
        let late = self.handle().act(|state, now| {
            let listed = list(&state.forest, filter).into_iter().filter_map(ListedTree::row);
            Ok(listed.filter(|row| row.is_late(now)).map(|row| row.id).collect::<Vec<_>>())
        })?;
        late.into_iter().try_for_each(|tree| self.time_out(tree))?;
        self.handle().act(|state, _| Ok(list(&state.forest, filter)))
    }

    async fn start_key_find(&self, scope: &KeyScope, key: &str) -> StoreResult<Option<TreeId>> {
        let place = (scope.stored(), key.to_owned());
        self.handle().act(|state, _| Ok(state.keys.get(&place).map(|holder| holder.tree)))
    }

    async fn outcome_read(&self, tree: TreeId) -> StoreResult<Option<TreeOutcome>> {
        self.time_out(tree)?;
        self.handle().act(|state, _| state.forest.tree(tree).map(outcome).transpose())
    }
}

impl MemoryStore {
    /// The trees that are wanted as they are now, newest first. Unlike the reads of [`Reading`] it settles nothing, so a model
    /// may look after every commit and change nothing by that.
    ///
    /// # Errors
    /// If this handle is closed.
    pub fn inspect(&self, is_wanted: impl Fn(&TreeRow) -> bool) -> StoreResult<Vec<TreeRecord>> {
        self.handle().act(|state, _| {
            let wanted = state.forest.newest_first(None).filter(|tree| is_wanted(&tree.row));
            Ok(wanted.map(record).collect())
        })
    }

    /// Settles what goes forward in a tree although its deadline has passed, so that no reader sees it pending (D3).
    pub(crate) fn time_out(&self, tree: TreeId) -> StoreResult<()> {
        let hints = self.handle().act(|state, now| {
            if !state.forest.tree(tree).is_some_and(|tree| tree.is_late(now)) {
                return Ok(None);
            }
            Ok(state.forest.change(tree, |tree| {
                tree.time_out(now);
                [Hint::Inbox(tree.row.id, tree.row.inbox), Hint::Governed(tree.row.id, tree.row.control)]
            }))
        })?;
        hints.map_or(Ok(()), |hints| self.handle().hint(&hints))
    }
}

fn record(tree: &Tree) -> TreeRecord {
    let entries = tree.journal.iter().flat_map(|(path, journal)| {
        journal.values().map(|(recorded_at, entry)| (path.0.clone(), *recorded_at, entry.clone()))
    });
    TreeRecord {
        row: tree.row.clone(),
        invocations: tree.invocations.values().cloned().collect(),
        entries: entries.collect(),
        timers: tree.timers.values().cloned().collect(),
        requests: tree.requests.clone(),
        settled: tree.settled.clone(),
    }
}

/// A walk from the newest one on. There is no index by function or state, because readers of a test have few trees.
fn list(forest: &Forest, filter: &TreeFilter) -> Vec<ListedTree> {
    let rows = forest.newest_first(filter.before).map(|tree| &tree.row);
    let of_function = rows.filter(|row| filter.function.as_ref().is_none_or(|function| *function == row.function));
    let in_state = of_function.filter(|row| filter.has_state(row.state));
    in_state.take(filter.limit).map(|row| ListedTree::Row(row.clone())).collect()
}

/// A root that has returned has an outcome before its children are closed; readers see it once the tree is settled.
fn outcome(tree: &Tree) -> StoreResult<TreeOutcome> {
    let row = &tree.row;
    let root = tree.invocation(&Path::root());
    let root = &root.ok_or_else(|| unreadable(format!("tree {} has no root", row.id)))?.invocation;
    Ok(TreeOutcome {
        state: row.state,
        closing: row.closing,
        function: row.function.clone(),
        version: row.version,
        attempts: root.state.attempt,
        outcome: root.state.outcome.clone().filter(|_| row.state.is_settled()),
    })
}
