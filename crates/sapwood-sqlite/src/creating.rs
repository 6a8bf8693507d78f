//! New trees and new invocations, which turns and starts both insert.

use jiff::Timestamp;
use sapwood_core::store::{NewTree, StoreResult};
use sapwood_core::tree::{Closing, Invocation, InvocationState, PromiseState, TreeState};
use sapwood_core::{FunctionVersion, TreeId, WorkerId};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;

/// One row per execution, for `Db::each`, which tells a tree that exists already from one that was inserted.
pub(crate) static TREE_INSERT: Bulk = Bulk::each(include_str!("../queries/tree_insert.sql"));

static INVOCATION_INSERT: Bulk = Bulk::rows(include_str!("../queries/invocation_insert.sql"));

/// The row of a new tree.
pub(crate) struct NewTreeRow<'t> {
    pub(crate) tree: &'t NewTree,
    pub(crate) state: TreeState,
    pub(crate) closing: Closing,
    pub(crate) owner: Option<WorkerId>,
    /// 0 if the tree is only started, 1 if its first turn comes with it.
    pub(crate) revision: i64,
    pub(crate) number: u32,
    pub(crate) ready_at: Option<Timestamp>,
    pub(crate) needs: Option<&'t FunctionVersion>,
}

impl NewTreeRow<'_> {
    /// The parameters of `tree_insert`.
    pub(crate) fn fill(&self, now: Timestamp, args: Args) -> Args {
        let Self { tree, .. } = self;
        args.tree(tree.id)
            .text(tree.function.as_str())
            .int(tree.version)
            .int(self.state.code())
            .int(self.closing.code())
            .opt_int(self.owner.map(|worker| worker.0))
            .int(self.revision)
            .int(self.number)
            .opt_time(self.ready_at)
            .opt_text(self.needs.map(ToString::to_string))
            .text(tree.cause.correlation.as_str())
            .opt_text(tree.cause.causation.as_deref())
            .opt_text(tree.cause.traceparent.as_deref())
            .time(now)
            .opt_time(tree.deadline)
            .opt_time(self.state.is_settled().then_some(now))
    }
}

/// Inserts invocations.
pub(crate) async fn invocations(db: &mut Db<'_>, created: &[(TreeId, &Invocation)]) -> StoreResult<()> {
    let now = db.now;
    db.insert(&INVOCATION_INSERT, created, |(tree, invocation), args| {
        let args = args
            .tree(*tree)
            .path(&invocation.path)
            .text(invocation.function.as_str())
            .int(invocation.version)
            .blob(&invocation.input);
        let undo = invocation.undo.as_ref().map(ToString::to_string);
        let args = fill_state(&invocation.state, args).opt_text(undo).opt_time(invocation.deadline);
        args.time(now).opt_time(settled_at(invocation.state.promise, now))
    })
    .await
}

/// The columns that change, in the order of `InvocationState`.
pub(crate) fn fill_state(state: &InvocationState, args: Args) -> Args {
    args.int(state.attempt)
        .int(state.promise.code())
        .int(state.closing.code())
        .opt_int(state.number)
        .opt_int(state.seen)
        .opt_blob(state.outcome.as_deref())
        .opt_blob(state.parked.as_deref())
}

/// The settle time of a promise that is written now in this state.
pub(crate) fn settled_at(promise: PromiseState, now: Timestamp) -> Option<Timestamp> {
    promise.is_settled().then_some(now)
}
