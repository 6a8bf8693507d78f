//! What a worker reads: a claimed tree, and all that one activation needs.

use sapwood_core::Path;
use sapwood_core::tree::{InvocationImage, InvocationRow, OpenInvocation, TreeImage};

use crate::promises::unrecorded;
use crate::tree::Tree;

/// What is needed to go on with a tree.
pub(crate) fn tree_image(tree: &Tree) -> TreeImage {
    let open = tree.invocations.values().filter(|row| !row.invocation.state.promise.is_closed());
    TreeImage {
        row: tree.row.clone(),
        open: open.map(|row| open_invocation(tree, row)).collect(),
        timers: tree.timers.values().cloned().collect(),
        nodes: tree.invocations.len(),
        requests: tree.requests_after(tree.row.applied).to_vec(),
        settled: unrecorded(tree),
    }
}

/// All that one activation needs.
pub(crate) fn invocation_image(tree: &Tree, path: &Path) -> Option<InvocationImage> {
    let row = tree.invocation(path)?;
    Some(InvocationImage {
        invocation: row.invocation.clone(),
        entries: tree.entries(path).cloned().collect(),
        children: tree.children(path).map(|child| child.invocation.clone()).collect(),
        timers: tree.timers_of(path).cloned().collect(),
    })
}

fn open_invocation(tree: &Tree, row: &InvocationRow) -> OpenInvocation {
    let invocation = &row.invocation;
    let recorded = tree.entries(&invocation.path).filter_map(|entry| entry.number);
    let settled = tree.children(&invocation.path).filter_map(|child| child.invocation.state.number);
    OpenInvocation {
        path: invocation.path.clone(),
        function: invocation.function.clone(),
        version: invocation.version,
        state: invocation.state.clone(),
        latest: recorded.chain(settled).max().unwrap_or(0),
        next_seq: tree.next_seq(&invocation.path),
    }
}
