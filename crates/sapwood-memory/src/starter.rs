//! Starts with keys, and the intake of events (W3).

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::store::{Intake, Start, Started, Starter, StoreResult};
use sapwood_core::tree::{Invocation, InvocationState};
use sapwood_core::{Path, WorkerId};

use crate::error::permanent;
use crate::fenced::Fenced;
use crate::handle::Handle;
use crate::offsets;
use crate::state::{KeyHolder, State, place_of};
use crate::tree::Tree;

/// Starts trees, owned or not.
pub(crate) struct MemoryStarter {
    handle: Arc<Handle>,
    /// None if the trees get no owner.
    fenced: Option<Fenced>,
}

impl MemoryStarter {
    pub(crate) fn new(handle: &Arc<Handle>, owner: Option<(WorkerId, u16)>) -> Self {
        let fenced = owner.map(|(worker, fence)| Fenced::new(worker, fence));
        Self { handle: Arc::clone(handle), fenced }
    }
}

#[async_trait]
impl Starter for MemoryStarter {
    async fn start(&mut self, starts: &[Start]) -> StoreResult<Vec<Started>> {
        let Self { handle, fenced } = self;
        handle.act(|state, now| {
            let owner = pass(fenced.as_mut(), state)?;
            check(state, starts)?;
            Ok(start_all(state, owner, starts, now))
        })
    }

    async fn intake(&mut self, batch: &Intake) -> StoreResult<Vec<Started>> {
        let Self { handle, fenced } = self;
        let Intake { group, offsets, starts } = batch;
        handle.act(|state, now| {
            let owner = pass(fenced.as_mut(), state)?;
            offsets::require_followed(state, group, offsets)?;
            check(state, starts)?;
            offsets::advance(state, group, offsets);
            Ok(start_all(state, owner, starts, now))
        })
    }
}

/// The owner of the trees to be, if its fence is open.
fn pass(fenced: Option<&mut Fenced>, state: &mut State) -> StoreResult<Option<WorkerId>> {
    let Some(fenced) = fenced else { return Ok(None) };
    fenced.pass(state)?;
    Ok(Some(fenced.worker()))
}

/// Refuses a start whose key is free and whose tree is there: two starts never share a tree.
fn check(state: &State, starts: &[Start]) -> StoreResult<()> {
    let (mut keys, mut trees) = (BTreeSet::new(), BTreeSet::new());
    for Start { tree, key } in starts {
        let place = place_of(key);
        let is_free = !state.keys.contains_key(&place) && keys.insert(place);
        if is_free && (state.forest.tree(tree.id).is_some() || !trees.insert(tree.id)) {
            return Err(permanent(format!("a start with a fresh key names tree {}, which exists", tree.id)));
        }
    }
    Ok(())
}

/// In order, so that of two equal keys the first wins.
fn start_all(state: &mut State, owner: Option<WorkerId>, starts: &[Start], now: Timestamp) -> Vec<Started> {
    starts.iter().map(|start| start_one(state, owner, start, now)).collect()
}

fn start_one(state: &mut State, owner: Option<WorkerId>, start: &Start, now: Timestamp) -> Started {
    let Start { tree: new, key } = start;
    let place = place_of(key);
    if let Some(holder) = state.keys.get(&place) {
        return held(state, holder, start);
    }
    state.keys.insert(place, KeyHolder { tree: new.id, digest: key.digest });
    let mut tree = Tree::new(new, owner, now);
    tree.call(&root_of(start), now);
    state.forest.insert(tree);
    Started::Created
}

/// What a start learns whose key is taken. One whose own tree has it was sent before, and its answer was lost.
fn held(state: &State, holder: &KeyHolder, start: &Start) -> Started {
    if holder.tree == start.tree.id {
        return Started::Created;
    }
    let function = state.forest.tree(holder.tree).map(|tree| tree.row.function.clone()).unwrap_or_default();
    Started::Existing { tree: holder.tree, function, same_digest: holder.digest == start.key.digest }
}

fn root_of(Start { tree, .. }: &Start) -> Invocation {
    Invocation {
        path: Path::root(),
        function: tree.function.clone(),
        version: tree.version,
        input: tree.input.clone(),
        state: InvocationState::fresh(),
        undo: None,
        deadline: tree.deadline,
    }
}
