//! External promises: found in the journal, settled under one lock.

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::journal::EntryKind;
use sapwood_core::store::{Promises, Settling, StoreResult, settle};
use sapwood_core::tree::{PromiseRow, PromiseState, SettledPromise, Settlement};
use sapwood_core::{Path, TreeId};

use crate::store::MemoryStore;
use crate::tree::Tree;

#[async_trait]
impl Promises for MemoryStore {
    async fn promise_find(
        &self,
        tree: TreeId,
        path: Option<&Path>,
        name: Option<&str>,
    ) -> StoreResult<Option<Vec<PromiseRow>>> {
        self.time_out(tree)?;
        self.handle().act(|state, _| Ok(state.forest.tree(tree).map(|tree| find(tree, path, name))))
    }

    async fn promise_settle(
        &self,
        tree: TreeId,
        path: &Path,
        name: &str,
        settlement: &Settlement,
    ) -> StoreResult<Option<Settling>> {
        self.time_out(tree)?;
        self.handle()
            .act(|state, now| Ok(state.forest.change(tree, |tree| settle_one(tree, path, name, settlement, now))))
    }

    async fn promise_inbox(&self, tree: TreeId, after: u32) -> StoreResult<Vec<SettledPromise>> {
        self.time_out(tree)?;
        self.handle().act(|state, _| {
            let settled = state.forest.tree(tree).map(|tree| tree.settled_after(after).to_vec());
            Ok(settled.unwrap_or_default())
        })
    }
}

fn find(tree: &Tree, path: Option<&Path>, name: Option<&str>) -> Vec<PromiseRow> {
    let mut found = Vec::new();
    for (of, journal) in tree.journal.iter().filter(|(of, _)| path.is_none_or(|path| of.0 == *path)) {
        let entries = || journal.values().map(|(recorded_at, entry)| (*recorded_at, entry));
        let is_pending =
            tree.invocation(&of.0).is_some_and(|row| row.invocation.state.promise == PromiseState::Pending);
        let is_dropped =
            |position| entries().any(|(_, entry)| entry.kind == EntryKind::Dropped && entry.position == position);
        let made = entries().filter(|(_, entry)| entry.kind == EntryKind::PromiseMade);
        found.extend(made.filter(|(_, entry)| name.is_none_or(|name| entry.name == name)).map(|(made_at, entry)| {
            PromiseRow {
                path: of.0.clone(),
                position: entry.position,
                name: entry.name.clone(),
                made: entry.payload.clone(),
                made_at,
                is_awaited: is_pending && !is_dropped(entry.position),
                deadline: tree.promise_deadline(&of.0, entry.position),
                settled: tree.settled_at_place(&of.0, entry.position).cloned(),
            }
        }));
    }
    found
}

fn settle_one(tree: &mut Tree, path: &Path, name: &str, settlement: &Settlement, now: Timestamp) -> Settling {
    // What is late is not settled any longer (D3).
    tree.time_out(now);
    let found = find(tree, Some(path), Some(name));
    let settling = settle(found.first(), tree.requests_after(tree.row.applied), tree.row.inbox);
    if let (Settling::Stored { inbox }, Some(promise)) = (&settling, found.first()) {
        let settled = SettledPromise {
            path: path.clone(),
            position: promise.position,
            name: name.to_owned(),
            state: settlement.state,
            outcome: settlement.outcome.clone(),
            settled_at: now,
            inbox: *inbox,
        };
        tree.settles(settled, now);
    }
    settling
}

/// The promises that were settled, and that the journal does not have.
pub(crate) fn unrecorded(tree: &Tree) -> Vec<SettledPromise> {
    let is_recorded = |settled: &SettledPromise| {
        let mut entries = tree.entries(&settled.path);
        entries.any(|entry| entry.kind == EntryKind::PromiseSettled && entry.position == settled.position)
    };
    tree.settled.iter().filter(|settled| !is_recorded(settled)).cloned().collect()
}
