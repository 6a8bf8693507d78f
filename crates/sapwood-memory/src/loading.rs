//! What a worker reads: a claimed tree, and all that one activation needs.

use sapwood_core::Path;
use sapwood_core::tree::{Closing, InvocationImage, InvocationRow, InvocationState, OpenInvocation, TreeImage};

use crate::promises::unrecorded;
use crate::tree::Tree;

/// What is needed to go on with a tree.
pub(crate) fn tree_image(tree: &Tree) -> TreeImage {
    let mut image = TreeImage {
        timers: tree.timers.values().cloned().collect(),
        nodes: tree.invocations.len(),
        requests: tree.requests_after(tree.row.applied).to_vec(),
        settled: unrecorded(tree),
        ..TreeImage::of(tree.row.clone())
    };
    let is_wanted = |state: &InvocationState| !state.is_closed() || state.closing == Closing::CompensationFailed;
    for row in tree.invocations.values().filter(|row| is_wanted(&row.invocation.state)) {
        image.take_up(open_invocation(tree, row));
    }
    image
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
        deadline: invocation.deadline,
    }
}
