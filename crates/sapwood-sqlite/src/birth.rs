//! New trees and new invocations: what a turn and a start both insert.

use jiff::Timestamp;
use sapwood_core::store::{NewTree, StoreResult};
use sapwood_core::tree::{Invocation, InvocationState, Phase, TreeState};
use sapwood_core::{TreeId, WorkerId};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;

/// A row each, for `Db::each`: a tree that is there already is told apart.
pub(crate) static TREE_INSERT: Bulk = Bulk::each(include_str!("../queries/tree_insert.sql"));

static INVOCATION_INSERT: Bulk = Bulk::rows(include_str!("../queries/invocation_insert.sql"));

/// A tree's row as it is inserted.
pub(crate) struct TreeBirth<'t> {
    pub(crate) tree: &'t NewTree,
    pub(crate) state: TreeState,
    pub(crate) owner: Option<WorkerId>,
    /// 0 where it is only started, 1 where its first turn comes with it.
    pub(crate) revision: i64,
    pub(crate) number: u32,
    pub(crate) ready_at: Option<Timestamp>,
    pub(crate) needs: Option<&'t str>,
}

impl TreeBirth<'_> {
    /// The row of `tree_insert`.
    pub(crate) fn fill(&self, now: Timestamp, args: Args) -> Args {
        let Self { tree, .. } = self;
        args.tree(tree.id)
            .text(tree.function.as_str())
            .int(tree.version)
            .int(self.state.code())
            .opt_int(self.owner.map(|worker| worker.0))
            .int(self.revision)
            .int(self.number)
            .opt_time(self.ready_at)
            .opt_text(self.needs)
            .text(tree.cause.correlation.as_str())
            .opt_text(tree.cause.causation.as_deref())
            .opt_text(tree.cause.traceparent.as_deref())
            .time(now)
            .opt_time(self.state.is_settled().then_some(now))
    }
}

/// Inserts invocations.
pub(crate) async fn invocations(db: &mut Db<'_>, born: &[(TreeId, &Invocation)]) -> StoreResult<()> {
    let now = db.now;
    db.insert(&INVOCATION_INSERT, born, |(tree, invocation), args| {
        let args = args
            .tree(*tree)
            .path(&invocation.path)
            .text(invocation.function.as_str())
            .int(invocation.version)
            .blob(&invocation.input);
        fill_state(&invocation.state, args).time(now).opt_time(settled_at(invocation.state.phase, now))
    })
    .await
}

/// The columns that change, in the order of `InvocationState`.
pub(crate) fn fill_state(state: &InvocationState, args: Args) -> Args {
    args.int(state.attempt)
        .int(state.phase.code())
        .int(state.closing as i16)
        .opt_int(state.number)
        .opt_int(state.seen)
        .opt_blob(state.outcome.as_deref())
        .opt_blob(state.parked.as_deref())
}

/// When a promise in this phase settles that is written now.
pub(crate) fn settled_at(phase: Phase, now: Timestamp) -> Option<Timestamp> {
    phase.is_settled().then_some(now)
}
