//! Requests for trees: judged and recorded under one lock.

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::control::{ControlRecord, ControlRequest};
use sapwood_core::store::{Governed, GovernedNode, Governing, Ruling, StoreResult, judge};
use sapwood_core::tree::{Closing, InvocationRow};
use sapwood_core::{Path, TreeId};

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
    let next = request.path.undo_again();
    let is_named = |path: &Path| *path == request.path || Some(path) == next.as_ref();
    let nodes: Vec<GovernedNode> = tree
        .invocations
        .values()
        .map(governed_node)
        .filter(|node| node.is_governable() || is_named(&node.path))
        .collect();
    let governed = Governed {
        control: tree.row.control,
        is_aside: tree.row.aside.is_some() && tree.row.owner.is_none() && tree.row.ready_at.is_none(),
        nodes: &nodes,
        pending: tree.requests_after(tree.row.applied),
    };
    let ruling = judge(governed, request);
    if let Ruling::Accepted { control } = ruling {
        tree.requests.push(ControlRecord { control, request: request.clone(), requested_at: now });
        tree.row.control = control;
        if tree.row.state.is_closed() {
            tree.row.closing = Closing::Compensating;
        }
        if tree.row.owner.is_none() {
            tree.row.ready_at = Some(now);
            tree.row.needs = None;
        }
    }
    ruling
}

fn governed_node(InvocationRow { invocation, .. }: &InvocationRow) -> GovernedNode {
    let state = &invocation.state;
    GovernedNode {
        path: invocation.path.clone(),
        promise: state.promise,
        closing: state.closing,
        is_parked: state.parked.is_some(),
    }
}
