//! Claiming trees: those that wait for a worker, and those whose worker is not alive.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sapwood_core::store::{Claimed, Claims, OwnedTree, StoreResult, Suspects};
use sapwood_core::tree::TreeState;
use sapwood_core::{FunctionVersion, TreeId, WorkerId};

use crate::forest::Forest;
use crate::state::State;
use crate::tree::Tree;

/// A claim of at most `limit` trees. Those whose worker is not alive come first, because they were running before.
pub(crate) struct Claim {
    worker: WorkerId,
    limit: usize,
    /// What a tree may need: nothing, or a version that this worker has.
    needs: BTreeSet<Option<FunctionVersion>>,
    suspects: Suspects,
}

impl Claim {
    pub(crate) fn new(worker: WorkerId, limit: usize, versions: &[FunctionVersion], suspects: Suspects) -> Self {
        let needs = versions.iter().cloned().map(Some).chain([None]).collect();
        Self { worker, limit, needs, suspects }
    }

    pub(crate) fn run(&self, state: &mut State, now: Timestamp) -> StoreResult<Claims> {
        state.require_alive(self.worker)?;
        let chosen = self.choose(state, now);
        let trees = chosen.into_iter().filter_map(|id| state.forest.change(id, |tree| self.take(tree))).collect();
        Ok(Claims { trees, unreadable: Vec::new(), next_ready_at: self.next_ready_at(&state.forest) })
    }

    fn choose(&self, state: &State, now: Timestamp) -> Vec<TreeId> {
        let (suspects, orphans): (Vec<&Tree>, Vec<&Tree>) = orphans(state).partition(|tree| tree.is_suspect());
        let mut chosen: Vec<TreeId> = orphans.into_iter().take(self.limit).map(|tree| tree.row.id).collect();
        let room = self.limit - chosen.len();
        chosen.extend(self.choose_suspects(suspects));
        chosen.extend(self.choose_due(&state.forest, now, room));
        chosen
    }

    /// The least often taken over come first.
    fn choose_suspects(&self, mut suspects: Vec<&Tree>) -> Vec<TreeId> {
        suspects.sort_by_key(|tree| (tree.takeovers, tree.row.id));
        let before = suspects.partition_point(|tree| tree.takeovers < 2);
        let (once, often) = suspects.split_at(before);
        let ids = |trees: &[&Tree], limit| trees.iter().take(limit).map(|tree| tree.row.id).collect::<Vec<_>>();
        let second = ids(once, self.suspects.second);
        if second.is_empty() { ids(often, self.suspects.further) } else { second }
    }

    /// Trees without an owner, longest due first.
    fn choose_due(&self, forest: &Forest, now: Timestamp, room: usize) -> Vec<TreeId> {
        let due = |needs| forest.ready(needs).take_while(|(at, _)| *at <= now).take(room);
        let mut all: Vec<(Timestamp, TreeId)> = self.needs.iter().flat_map(due).collect();
        all.sort_unstable();
        all.into_iter().take(room).map(|(_, id)| id).collect()
    }

    fn take(&self, tree: &mut Tree) -> Claimed {
        let is_orphan = tree.row.owner.is_some();
        let takeovers = match (is_orphan, tree.is_suspect()) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => tree.takeovers.saturating_add(1),
        };
        tree.row.owner = Some(self.worker);
        tree.row.revision += 1;
        // An outcome stands while something is undone again.
        if !tree.row.state.is_settled() {
            tree.row.state = TreeState::Running;
        }
        tree.row.ready_at = None;
        tree.row.needs = None;
        tree.row.aside = None;
        if is_orphan {
            tree.takeovers = takeovers;
            tree.taken_over_at = Some(tree.row.revision);
        }
        Claimed { row: tree.row.clone(), takeovers }
    }

    /// When the first tree is due that is left and that this worker may go on with.
    fn next_ready_at(&self, forest: &Forest) -> Option<Timestamp> {
        self.needs.iter().filter_map(|needs| forest.ready(needs).next()).map(|(at, _)| at).min()
    }
}

/// Open trees whose worker is not alive.
fn orphans(state: &State) -> impl Iterator<Item = &Tree> {
    let dead = state.forest.owners().filter(|owner| !state.is_alive(*owner));
    dead.flat_map(|owner| state.forest.owned_by(owner, None))
}

/// The revisions of those of these trees that are there.
pub(crate) fn revisions(forest: &Forest, trees: &[TreeId]) -> Vec<(TreeId, u64)> {
    trees.iter().filter_map(|id| forest.tree(*id)).map(|tree| (tree.row.id, tree.row.revision)).collect()
}

/// The open trees of a worker, by id.
pub(crate) fn owned(forest: &Forest, worker: WorkerId, after: Option<TreeId>, limit: usize) -> Vec<OwnedTree> {
    let owned = forest.owned_by(worker, after).take(limit).map(|tree| &tree.row);
    owned.map(|row| OwnedTree { id: row.id, revision: row.revision, control: row.control, inbox: row.inbox }).collect()
}

/// Sets a tree aside that its owner cannot drive. Returns whether the worker owned it.
pub(crate) fn set_aside(state: &mut State, worker: WorkerId, tree: TreeId, reason: &str) -> StoreResult<bool> {
    state.require_alive(worker)?;
    let owned = state.forest.change(tree, |tree| {
        if tree.row.owner != Some(worker) {
            return false;
        }
        tree.row.owner = None;
        tree.row.revision += 1;
        if !tree.row.state.is_settled() {
            tree.row.state = TreeState::Parked;
        }
        tree.row.ready_at = None;
        tree.row.needs = None;
        tree.row.aside = Some(reason.to_owned());
        true
    });
    Ok(owned.unwrap_or(false))
}
