//! What a poll comes to: a return, a panic, a limit, a violation; and how promises settle up the tree.

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::Position;
use sapwood_core::clock::after;
use sapwood_core::control::ControlVerb;
use sapwood_core::journal::Entry;
use sapwood_core::limits::LimitError;
use sapwood_core::retry::OnExhausted;
use sapwood_core::store::TreeOutcome;
use sapwood_core::tree::{PromiseState, TimerKind, TreeState};

use super::compensate::CloseStep;
use super::model::Tree;
use super::node::{Move, Node, NodeId};
use crate::activation::{Finish, Fresh, Notice, Report, StepEnd, Work};
use crate::payload::{BodyError, BodyResult, Parked, ParkedCode, Rejection, RejectionKind, Retried, encode};
use crate::replay::Completion;

impl Tree {
    /// A body was polled and waits. Returns the nodes to be polled.
    pub(crate) fn paused(&mut self, id: NodeId, report: Report) -> Vec<NodeId> {
        let mut woken = Vec::new();
        match self.record(id, report.fresh, &mut woken) {
            Ok(()) => report.steps_ended.into_iter().for_each(|end| self.step_ended(id, end)),
            Err(limit) => woken.extend(self.limited(id, &limit)),
        }
        woken
    }

    /// An activation is over. What ended in its last poll is recorded before its own end is judged: a step that
    /// succeeded never runs again (F5, R3). Returns the nodes to be polled.
    pub(crate) fn finished(&mut self, id: NodeId, finish: Finish, report: Report) -> Vec<NodeId> {
        let Report { fresh, steps_ended } = report;
        let after = self.after(id, finish);
        for end in steps_ended {
            // If the function has its outcome, no other attempt of a step follows either.
            let retry_at = end.retry_at.filter(|_| matches!(after, After::Retries(_) | After::Parks(_)));
            self.step_ended(id, StepEnd { retry_at, ..end });
        }
        match after {
            After::Retries(retry) => {
                self.retry(id, retry);
                Vec::new()
            }
            After::Parks(parked) => {
                self.park(id, &parked);
                Vec::new()
            }
            After::Returns(result) => self.returned(id, result, fresh),
            After::Limited(limit) => self.limited(id, &limit),
            After::StepTimedOut(message) => {
                let rejection = Rejection::of(RejectionKind::StepTimedOut, message);
                self.decided(id, PromiseState::ReturnedErr, rejection.to_bytes())
            }
        }
    }

    /// What becomes of a function whose activation ended like this.
    ///
    /// After an error another attempt follows only if it can end otherwise: if it runs a failed step again, or draws a value
    /// again (F5). What else the last poll wrote is no reason, because a replay would write the same on its way to the same
    /// error. A panic counts like a transient error, also with nothing to forget (F6). With no attempt left, a panic parks,
    /// and so does an error if the function pauses (F8).
    fn after(&self, id: NodeId, finish: Finish) -> After {
        let (basis, code, message, error) = match finish {
            Finish::Returned(Err(error), basis) if error.transient && basis.can_end_otherwise() => {
                (basis, ParkedCode::Exhausted, error.message.clone(), Some(error))
            }
            Finish::Panicked(message, basis) => (basis, ParkedCode::Panic, message, None),
            Finish::Returned(result, _) => return After::Returns(result),
            Finish::Parked(parked) => return After::Parks(parked),
            Finish::Limited(limit) => return After::Limited(limit),
            Finish::StepTimedOut(message) => return After::StepTimedOut(message),
        };
        let node = self.nodes.get(id);
        let attempt = node.map_or(1, |node| node.state.attempt);
        let definition = node.and_then(|node| node.definition.as_ref());
        let counted = attempt.saturating_sub(basis.spent_attempts);
        let wait = definition.and_then(|definition| definition.retry.backoff(counted, basis.fraction));
        // No attempt begins past the deadline (F8).
        let due_at = wait.map(|wait| after(basis.ended_at, wait));
        if let Some(due_at) = due_at.filter(|due_at| self.deadline_of(id).is_none_or(|deadline| *due_at < deadline)) {
            let message = if error.is_some() { message } else { format!("panicked: {message}") };
            return After::Retries(Retry { message, due_at, forgotten: basis.forgotten });
        }
        let pauses = definition.is_some_and(|definition| definition.on_exhausted == OnExhausted::Pause);
        let message = match error {
            Some(error) if !pauses => return After::Returns(Err(error)),
            Some(_) => message,
            None => format!("panicked at the last attempt: {message}"),
        };
        After::Parks(Parked::new(code, message, basis.position, basis.location()).after(attempt, &basis.forgotten))
    }

    fn returned(&mut self, id: NodeId, result: BodyResult, fresh: Vec<Fresh>) -> Vec<NodeId> {
        // The body is gone: the handles that it dropped on its way out mean nothing (N2).
        let fresh = fresh.into_iter().filter(|fresh| !matches!(fresh, Fresh::Drop { .. })).collect();
        let mut woken = Vec::new();
        let recorded = self.record(id, fresh, &mut woken);
        woken.extend(match (recorded, result) {
            (Err(limit), _) => self.limited(id, &limit),
            (Ok(()), Ok(value)) => self.resolved(id, value),
            (Ok(()), Err(error)) => self.rejected(id, &error),
        });
        woken
    }

    fn resolved(&mut self, id: NodeId, value: Bytes) -> Vec<NodeId> {
        let limit = self.facts.limits.payload_bytes;
        if value.len() > limit {
            let what = "payload bytes".to_owned();
            return self.limited(id, &LimitError { operation: "return".to_owned(), what, found: value.len(), limit });
        }
        self.decided(id, PromiseState::ReturnedOk, value)
    }

    fn rejected(&mut self, id: NodeId, error: &BodyError) -> Vec<NodeId> {
        let limit = self.facts.limits.payload_bytes;
        if error.error.len() > limit {
            let (what, found) = ("payload bytes".to_owned(), error.error.len());
            return self.limited(id, &LimitError { operation: "return of an error".to_owned(), what, found, limit });
        }
        self.decided(id, PromiseState::ReturnedErr, Rejection::of_body(error).to_bytes())
    }

    /// An operation met a limit: it fails by name, and its function with it.
    pub(super) fn limited(&mut self, id: NodeId, limit: &LimitError) -> Vec<NodeId> {
        let rejection = Rejection::of(RejectionKind::Limit, limit.to_string());
        self.decided(id, PromiseState::ReturnedErr, rejection.to_bytes())
    }

    /// A consumer cannot read its event. It is rejected at once, because no later build is sure to read it.
    pub(crate) fn undecodable(&mut self, id: NodeId, message: String) -> Vec<NodeId> {
        self.decided(id, PromiseState::ReturnedErr, Rejection::of(RejectionKind::Input, message).to_bytes())
    }

    fn retry(&mut self, id: NodeId, Retry { message, forgotten, due_at }: Retry) {
        tracing::info!(tree = %self.id(), error = message, "an attempt failed; another follows");
        self.retried(id, &Retried { message, forgotten, afresh: false });
        self.arm(id, Entry::NO_POSITION, TimerKind::FunctionRetry, due_at);
        self.put_down(id, Move::BackedOff);
        if let Some(node) = self.nodes.get_mut(id) {
            node.state.seen = Some(self.number);
        }
        self.save(id);
    }

    /// Parks an invocation: history stays whole, siblings go on, no attempt is consumed (R9).
    pub(crate) fn park(&mut self, id: NodeId, parked: &Parked) {
        if let Some(node) = self.nodes.get_mut(id) {
            tracing::error!(tree = %self.facts.tree, path = %node.path, function = node.function, "parked: {parked}");
            node.state.parked = Some(encode(parked));
        }
        self.put_down(id, Move::Parked);
        self.withhold_if_parked(id);
        self.save(id);
    }

    /// Parks every invocation, for a reason that is the whole tree's. It is what has come of requests to go on.
    pub(crate) fn park_all(&mut self, code: ParkedCode, message: &str) {
        self.requests.retain(|record| !matches!(record.request.verb, ControlVerb::Resume | ControlVerb::Retry));
        let nodes: Vec<NodeId> = self.nodes.ids().collect();
        for id in nodes {
            self.park(id, &Parked::new(code, message, 0, ""));
        }
    }

    /// The outcome is decided by the function itself; what it called and is still open is cancelled (N2). The promise
    /// settles once all of that is closed (N1).
    fn decided(&mut self, id: NodeId, promise: PromiseState, outcome: Bytes) -> Vec<NodeId> {
        self.goes_forward(id);
        self.put_down(id, Move::Decided);
        let Some(node) = self.nodes.get_mut(id) else { return Vec::new() };
        node.state.promise = promise;
        node.state.outcome = Some(outcome);
        let path = node.path.clone();
        if let Some(deadline) = node.deadline {
            self.timers.clear_deadline(&path, deadline);
        }
        self.clear_timers(&path);
        let mut woken = self.cancel_children(id);
        woken.extend(self.close(id));
        woken
    }

    /// Goes on closing an invocation whose outcome is decided: it waits for its children, undoes what it has to undo, and
    /// settles once nothing is left to do. Goes on up the tree as far as parents waited only for that. Returns the nodes to be
    /// polled.
    pub(super) fn close(&mut self, id: NodeId) -> Vec<NodeId> {
        let mut woken = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next.take() {
            match self.next_to_close(id) {
                CloseStep::Waits => self.save(id),
                CloseStep::Undoes(undo) => woken.push(undo),
                CloseStep::Closes => next = self.settle(id, &mut woken),
            }
        }
        woken
    }

    /// Settles a promise whose invocation is closed. If its parent's outcome is decided, that is to be closed next; else the
    /// parent is told.
    fn settle(&mut self, id: NodeId, woken: &mut Vec<NodeId>) -> Option<NodeId> {
        let number = self.number + 1;
        let node = self.nodes.get_mut(id)?;
        if node.state.promise.is_closed() {
            return self.closed_again(id);
        }
        // What its deadline settled has its number, and its caller was told (D2).
        let is_told = node.state.promise == PromiseState::TimingOut;
        node.state.promise = match node.state.promise {
            PromiseState::ReturnedOk => PromiseState::Resolved,
            PromiseState::ReturnedErr => PromiseState::Rejected,
            PromiseState::Cancelling => PromiseState::Cancelled,
            PromiseState::TimingOut => PromiseState::TimedOut,
            settled => settled,
        };
        let position = node.path.position();
        if position.is_some() && !is_told {
            node.state.number = Some(number);
            self.number = number;
        }
        self.save(id);
        let node = self.nodes.remove(id)?;
        let (promise, attempts) = (node.state.promise, node.state.attempt);
        let Some((parent_path, position)) = node.path.parent().zip(position) else {
            self.outcome = Some(self.outcome_of(&node, settled_state(promise)));
            return None;
        };
        let parent = self.nodes.at(&parent_path)?;
        let parent_node = self.nodes.get_mut(parent)?;
        parent_node.open_children.remove(&position);
        if parent_node.state.promise != PromiseState::Pending {
            if node.path.undoes().is_some() && promise != PromiseState::Resolved {
                self.undo_failed(parent);
            }
            return self.nodes.get(parent).is_some_and(Node::is_closable).then_some(parent);
        }
        if !node.is_forsaken && !is_told {
            let outcome = node.state.outcome.unwrap_or_default();
            let completion = Completion::Call { version: node.version, promise, attempts, outcome };
            self.notify(parent, Notice::Completed { position, number, completion });
            woken.push(parent);
        }
        None
    }

    /// The outcome of the tree, as its root has it.
    pub(super) fn outcome_of(&self, root: &Node, state: TreeState) -> TreeOutcome {
        TreeOutcome {
            state,
            closing: self.closing(),
            function: root.function.clone(),
            version: root.version,
            attempts: root.state.attempt,
            outcome: root.state.outcome.clone(),
        }
    }

    /// A node goes on without the body it had.
    pub(super) fn put_down(&mut self, id: NodeId, by: Move) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.is_blank = false;
        }
        self.put_down.push(id);
        self.nodes.set_work(id, Work::default());
        self.nodes.on(id, by);
    }
}

/// What becomes of a function whose activation is over.
enum After {
    /// Another attempt follows.
    Retries(Retry),
    /// It waits for an operator.
    Parks(Parked),
    /// It has this result, or this error.
    Returns(BodyResult),
    /// It met a limit.
    Limited(LimitError),
    /// A step of it timed out, and its error type cannot say so.
    StepTimedOut(String),
}

/// The next attempt of a function.
struct Retry {
    message: String,
    /// The failed steps that it runs again.
    forgotten: Vec<Position>,
    due_at: Timestamp,
}

/// The state of a tree whose root's promise settled like this.
const fn settled_state(promise: PromiseState) -> TreeState {
    match promise {
        PromiseState::Resolved => TreeState::Resolved,
        PromiseState::Rejected => TreeState::Rejected,
        PromiseState::Cancelled => TreeState::Cancelled,
        PromiseState::TimedOut => TreeState::TimedOut,
        PromiseState::Pending
        | PromiseState::ReturnedOk
        | PromiseState::ReturnedErr
        | PromiseState::Cancelling
        | PromiseState::TimingOut => TreeState::Running,
    }
}
