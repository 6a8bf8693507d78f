//! Requests for trees: judged and recorded under one lock.

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::TreeId;
use sapwood_core::control::{ControlRecord, ControlRequest};
use sapwood_core::store::{Governed, Governing, Ruling, StoreResult, judge};

use crate::store::MemoryStore;
use crate::tree::Tree;

#[async_trait]
impl Governing for MemoryStore {
    async fn tree_govern(&self, tree: TreeId, request: &ControlRequest) -> StoreResult<Option<Ruling>> {
        self.handle().act(|state, now| Ok(state.forest.change(tree, |tree| govern(tree, request, now))))
    }
}

/// Without an owner the tree is due at once, for any worker: to close it may take none of the versions that it needs.
fn govern(tree: &mut Tree, request: &ControlRequest, now: Timestamp) -> Ruling {
    let governed = Governed {
        state: tree.row.state,
        control: tree.row.control,
        promise: tree.invocation(&request.path).map(|row| row.invocation.state.promise),
        pending: tree.requests_after(tree.row.applied),
    };
    let ruling = judge(governed, request);
    if let Ruling::Accepted { control } = ruling {
        tree.requests.push(ControlRecord { control, request: request.clone(), requested_at: now });
        tree.row.control = control;
        if tree.row.owner.is_none() {
            tree.row.ready_at = Some(now);
            tree.row.needs = None;
        }
    }
    ruling
}
