//! What a return, a panic, a limit or a violation comes to; and how promises settle up the tree.

use bytes::Bytes;
use sapwood_core::limits::LimitError;
use sapwood_core::retry::RetryPolicy;
use sapwood_core::store::Outcome;
use sapwood_core::tree::{Phase, TimerKind};

use super::node::Status;
use super::{NodeId, Tree};
use crate::activation::{Fresh, Report};
use crate::outcome::{Rejection, RejectionKind};
use crate::registry::{BodyError, BodyResult, Registry, encode};
use crate::replay::{Completion, RetriedPayload, Violation};

impl Tree {
    /// A body returned. Returns the nodes to look at.
    pub(super) fn returned(
        &mut self,
        id: NodeId,
        result: BodyResult,
        report: Report,
        registry: &Registry,
    ) -> Vec<NodeId> {
        let Some(cell) = self.cell(id) else { return Vec::new() };
        if let Some(violation) = cell.script(crate::replay::Script::unasked) {
            return self.park(id, &violation);
        }
        if let Err(error) = &result
            && error.transient
            && let Some(retry) = self.retry_of(id, &report)
        {
            return self.retry(id, &error.message, retry);
        }
        // The body is gone: what it dropped on its way out tells nobody anything.
        let fresh = report.fresh.into_iter().filter(|fresh| !matches!(fresh, Fresh::Drop { .. })).collect();
        let mut woken = Vec::new();
        let recorded = self.record(id, fresh, registry, &mut woken);
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
        self.decided(id, Phase::ReturnedOk, value)
    }

    fn rejected(&mut self, id: NodeId, error: &BodyError) -> Vec<NodeId> {
        let limit = self.facts.limits.payload_bytes;
        if error.error.len() > limit {
            let (what, found) = ("payload bytes".to_owned(), error.error.len());
            return self.limited(id, &LimitError { operation: "return of an error".to_owned(), what, found, limit });
        }
        self.decided(id, Phase::ReturnedErr, Rejection::of_body(error).to_bytes())
    }

    /// An operation met a bound: it fails by name, and its function with it.
    pub(super) fn limited(&mut self, id: NodeId, limit: &LimitError) -> Vec<NodeId> {
        let rejection = Rejection::of(RejectionKind::Limit, limit.to_string());
        self.decided(id, Phase::ReturnedErr, rejection.to_bytes())
    }

    /// The recorded input is none that the function can read, and never was.
    pub(super) fn undecodable(&mut self, id: NodeId, message: String) -> Vec<NodeId> {
        self.decided(id, Phase::ReturnedErr, Rejection::of(RejectionKind::Input, message).to_bytes())
    }

    /// A body panicked: an attempt like a transient error, also with nothing to forget; exhausted, it parks (F6).
    pub(super) fn panicked(&mut self, id: NodeId, message: &str) -> Vec<NodeId> {
        let forgotten = self.cell(id).map(|cell| cell.script(crate::replay::Script::forgettable)).unwrap_or_default();
        match self.policy(id).and_then(|(policy, attempt)| policy.backoff(attempt, crate::random::fraction())) {
            Some(backoff) => self.retry(id, &format!("panicked: {message}"), Retry { forgotten, backoff }),
            None => {
                let cursor = self.cell(id).map_or(0, |cell| cell.cursor());
                self.park(id, &Violation::misuse(cursor, format!("a panic, at the last attempt: {message}"), ""))
            }
        }
    }

    /// The retry that a transient error gets: none where attempts are used up, or where there is nothing to forget,
    /// for then it would only replay the same error (F5).
    fn retry_of(&self, id: NodeId, report: &Report) -> Option<Retry> {
        let (policy, attempt) = self.policy(id)?;
        let cell = self.cell(id)?;
        let forgotten = cell.script(crate::replay::Script::forgettable);
        // What the last poll dropped is no reason: a replay drops it again on its way to the same error.
        let wrote = report.fresh.iter().any(|fresh| !matches!(fresh, Fresh::Drop { .. }))
            || cell.script(crate::replay::Script::asked_in_last_poll);
        if !wrote && forgotten.is_empty() {
            return None;
        }
        let backoff = policy.backoff(attempt, crate::random::fraction())?;
        Some(Retry { forgotten, backoff })
    }

    fn policy(&self, id: NodeId) -> Option<(RetryPolicy, u32)> {
        let node = self.nodes.get(&id)?;
        Some((node.definition.as_ref()?.retry, node.state.attempt))
    }

    fn retry(&mut self, id: NodeId, message: &str, retry: Retry) -> Vec<NodeId> {
        tracing::info!(tree = %self.id(), error = message, "an attempt failed; another follows");
        let Retry { forgotten, backoff } = retry;
        // A forgotten step may still have a timer.
        let path = self.nodes.get(&id).map(|node| node.path.clone()).unwrap_or_default();
        self.clear_timers(|timer| {
            timer.path == path && timer.kind == TimerKind::StepRetry && forgotten.contains(&timer.position)
        });
        let payload = encode(&RetriedPayload { message: message.to_owned(), forgotten });
        self.retried(id, payload, backoff);
        self.put_down(id, Status::BackingOff);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.state.seen = Some(self.number);
        }
        self.save(id);
        Vec::new()
    }

    /// Parks an invocation: history stays whole, siblings go on, no attempt is consumed (R9).
    pub(super) fn park(&mut self, id: NodeId, violation: &Violation) -> Vec<NodeId> {
        if let Some(node) = self.nodes.get_mut(&id) {
            tracing::error!(tree = %self.facts.tree, path = %node.path, function = node.function, "parked: {violation}");
            node.state.parked = Some(encode(violation));
        }
        self.put_down(id, Status::Parked);
        self.save(id);
        Vec::new()
    }

    /// Parks every invocation: the store refuses what they recorded.
    pub(crate) fn park_all(&mut self, error: &str) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in nodes {
            self.park(id, &Violation::misuse(0, format!("a commit that the store refuses: {error}"), ""));
        }
    }

    /// The outcome is decided; the promise settles once all children are closed (N1).
    fn decided(&mut self, id: NodeId, phase: Phase, outcome: Bytes) -> Vec<NodeId> {
        self.put_down(id, Status::Returned);
        let Some(node) = self.nodes.get_mut(&id) else { return Vec::new() };
        node.state.phase = phase;
        node.state.outcome = Some(outcome);
        let path = node.path.clone();
        let is_closed = node.open_children == 0;
        self.clear_timers(|timer| timer.path == path);
        if is_closed {
            return self.settle(id);
        }
        self.save(id);
        Vec::new()
    }

    /// Settles a promise whose outcome is decided and whose children are closed, and tells its parent.
    fn settle(&mut self, id: NodeId) -> Vec<NodeId> {
        let mut next = Some(id);
        while let Some(id) = next.take() {
            let number = self.number + 1;
            let Some(node) = self.nodes.get_mut(&id) else { break };
            node.state.phase = match node.state.phase {
                Phase::ReturnedOk => Phase::Resolved,
                Phase::ReturnedErr => Phase::Rejected,
                settled => settled,
            };
            let position = node.path.position();
            if position.is_some() {
                node.state.number = Some(number);
                self.number = number;
            }
            self.save(id);
            let Some(node) = self.nodes.remove(&id) else { break };
            self.by_path.remove(&node.path);
            let (phase, attempts) = (node.state.phase, node.state.attempt);
            let Some((parent_path, position)) = node.path.parent().zip(position) else {
                self.outcome = Some(Outcome {
                    state: Self::settled_state(phase),
                    function: node.function,
                    version: node.version,
                    attempts,
                    value: node.state.outcome,
                });
                break;
            };
            let Some(parent) = self.by_path.get(&parent_path).copied() else { break };
            let Some(parent_node) = self.nodes.get_mut(&parent) else { break };
            parent_node.open_children = parent_node.open_children.saturating_sub(1);
            if parent_node.status == Status::Returned {
                next = (parent_node.open_children == 0).then_some(parent);
                continue;
            }
            let outcome = node.state.outcome.unwrap_or_default();
            let completion = Completion::Call { version: node.version, phase, attempts, outcome };
            self.complete(parent, position, number, completion);
            return vec![parent];
        }
        Vec::new()
    }

    /// A function that waits: it leaves its slot, and has seen every completion so far.
    pub(super) fn suspend(&mut self, id: NodeId) {
        let number = self.number;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.status = Status::Waiting;
        node.permit = None;
        if node.state.seen != Some(number) {
            node.state.seen = Some(number);
            self.save(id);
        }
    }

    /// Drops a node's body and slot.
    fn put_down(&mut self, id: NodeId, status: Status) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.activation = None;
            node.permit = None;
            node.blank = false;
            node.status = status;
        }
    }
}

/// A retry to come.
struct Retry {
    forgotten: Vec<sapwood_core::Position>,
    backoff: std::time::Duration,
}
