//! The requests of a run: what operators ask for, and what they are told.

use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::store::NoEffect;
use sapwood_core::tree::{Closing, InvocationRow, PromiseState, TreeRecord};
use sapwood_core::{Path, TreeId};
use sapwood_engine::{Effect, GovernError};

/// What was accepted, in order.
#[derive(Default)]
pub(super) struct Requests(Vec<Accepted>);

struct Accepted {
    tree: TreeId,
    request: ControlRequest,
    /// The rounds of undos that come of it, unless a kill comes first.
    rounds: Vec<Path>,
}

impl Requests {
    /// K6: a request that could change something, given how its tree was before, is accepted; no other is.
    pub(super) fn asked(
        &mut self,
        before: &TreeRecord,
        request: ControlRequest,
        effect: Result<Effect, GovernError>,
    ) -> Result<(), String> {
        let row = before.invocations.iter().find(|row| row.invocation.path == request.path);
        let wrong = |what: &str| Err(format!("{request:?} was answered {effect:?}, {what}"));
        let is_heard = before.row.control == before.row.applied && before.row.aside.is_none();
        let (Some(row), Ok(effect)) = (row, &effect) else {
            let is_right = row.is_none() && matches!(effect, Err(GovernError::UnknownNode { .. }));
            return if is_right { Ok(()) } else { wrong("and the invocation is there, or is not") };
        };
        let promise = row.invocation.state.promise;
        let can_change = can_change(before, row, &request);
        match effect {
            Effect::Accepted if is_heard && !can_change => return wrong("and it can change nothing"),
            Effect::Accepted => {
                let rounds = if is_heard { next_rounds(before, &request) } else { Vec::new() };
                self.0.push(Accepted { tree: before.row.id, request, rounds });
            }
            Effect::None(_) if is_heard && can_change => return wrong("and it can change something"),
            Effect::None(NoEffect::Settled(told) | NoEffect::Decided(told)) if *told != promise => {
                return wrong(&format!("and it is {promise:?}"));
            }
            Effect::None(NoEffect::Requested) if is_heard => return wrong("and nothing was asked for before"),
            Effect::None(_) => {}
        }
        Ok(())
    }

    /// What was accepted is recorded, each request once, with its actor and its reason.
    pub(super) fn judge(&self, record: &TreeRecord, refuses: bool) -> Result<(), String> {
        let accepted: Vec<&Accepted> = self.0.iter().filter(|accepted| accepted.tree == record.row.id).collect();
        let asked: Vec<_> = accepted.iter().map(|accepted| &accepted.request).collect();
        let recorded: Vec<_> = record.requests.iter().map(|recorded| &recorded.request).collect();
        if asked != recorded {
            return Err(format!("{asked:?} was accepted, {recorded:?} is recorded"));
        }
        for (number, Accepted { request, rounds, .. }) in accepted.iter().enumerate() {
            let kills = |path: &Path| {
                let later = accepted[number..].iter().map(|accepted| &accepted.request);
                let mut kills = later.filter(|request| request.verb == ControlVerb::Kill);
                kills.any(|request| request.path.is_at_or_above(path))
            };
            let is_there = |path: &Path| record.invocations.iter().any(|row| row.invocation.path == *path);
            // What carries it out may be refused for good.
            if let Some(missing) = rounds.iter().find(|path| !is_there(path) && !kills(path) && !refuses) {
                return Err(format!("nothing came of {request:?}: there is no {missing}"));
            }
        }
        Ok(())
    }
}

fn can_change(tree: &TreeRecord, row: &InvocationRow, request: &ControlRequest) -> bool {
    let reached = || tree.invocations.iter().filter(|row| request.path.is_at_or_above(&row.invocation.path));
    let is_parked = || reached().any(|row| row.invocation.state.parked.is_some());
    let closes = |closing| reached().any(move |row| row.invocation.state.closing == closing);
    match request.verb {
        ControlVerb::Cancel => row.invocation.state.promise == PromiseState::Pending,
        ControlVerb::Kill => {
            let compensates_again =
                |row: &InvocationRow| !row.invocation.state.is_closed() && row.invocation.state.promise.is_closed();
            !row.invocation.state.promise.is_closed() || reached().any(compensates_again)
        }
        ControlVerb::Resume => is_parked(),
        ControlVerb::Retry => is_parked() || closes(Closing::CompensationFailed) || is_failed_undo(tree, row),
    }
}

/// What is undone again if a request is to retry that, in a tree that has heard everything before it.
fn next_rounds(tree: &TreeRecord, request: &ControlRequest) -> Vec<Path> {
    let is_reached = |row: &&InvocationRow| {
        let caller = row.invocation.path.parent();
        request.path.is_at_or_above(&row.invocation.path) || Some(&request.path) == caller.as_ref()
    };
    let undos = tree.invocations.iter().filter(|row| request.verb == ControlVerb::Retry && is_failed_undo(tree, row));
    undos.filter(is_reached).filter_map(|row| row.invocation.path.undo_again()).collect()
}

/// Whether it is the last round of an undo, and has failed, and nothing is undone again there meanwhile.
fn is_failed_undo(tree: &TreeRecord, row: &InvocationRow) -> bool {
    let path = &row.invocation.path;
    let find = |path: &Path| tree.invocations.iter().find(|row| row.invocation.path == *path);
    let has_next = path.undo_again().is_none_or(|next| find(&next).is_some());
    let caller = path.parent().and_then(|caller| find(&caller));
    let failed = caller.is_some_and(|caller| caller.invocation.state.closing == Closing::CompensationFailed);
    let promise = row.invocation.state.promise;
    path.undoes().is_some() && failed && !has_next && promise.is_closed() && promise != PromiseState::Resolved
}
