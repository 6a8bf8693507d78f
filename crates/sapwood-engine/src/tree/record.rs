//! Writes down what happened: what a poll wrote, how a step ended, which timers are due.

use bytes::Bytes;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::limits::LimitError;
use sapwood_core::tree::{Invocation, InvocationState, Timer, TimerKind};
use sapwood_core::{Path, Position};
use serde::{Deserialize, Serialize};

use super::node::{Node, Status};
use super::{NodeId, Tree};
use crate::activation::{Fresh, StepDone};
use crate::cx::sleep_input;
use crate::outcome::Rejection;
use crate::registry::{Registry, encode};
use crate::replay::Completion;

/// The payload of [`EntryKind::StepRetried`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StepRetriedPayload {
    /// What the try ended with, in words.
    pub(crate) message: String,
}

/// The rows of an entry, without its place in the journal.
struct Line<'a> {
    kind: EntryKind,
    position: Position,
    number: Option<u32>,
    attempt: u32,
    name: &'a str,
    payload: Bytes,
}

impl Tree {
    /// Records what a poll wrote; adds the children that are to be begun to `children`.
    ///
    /// # Errors
    /// The bound that the tree as a whole would pass; what was written before it is recorded.
    pub(super) fn record(
        &mut self,
        id: NodeId,
        fresh: Vec<Fresh>,
        registry: &Registry,
        children: &mut Vec<NodeId>,
    ) -> Result<(), LimitError> {
        for fresh in fresh {
            match fresh {
                Fresh::Call { position, function, version, input } => {
                    children.push(self.create_child(id, position, function, version, input, registry)?);
                }
                Fresh::Sleep { position, ms } => self.begin_sleep(id, position, ms),
                Fresh::Emit { position, event } => {
                    self.write(id, Line::of(EntryKind::Emitted, position, &event.cloud_type, event.content.clone()));
                    self.draft.event(*event);
                }
                Fresh::Value { position, kind, value } => {
                    self.write(id, Line::of(EntryKind::Valued, position, kind, value));
                }
                Fresh::Drop { position } => {
                    self.write(id, Line::of(EntryKind::Dropped, position, "", Bytes::new()));
                }
            }
        }
        Ok(())
    }

    fn create_child(
        &mut self,
        id: NodeId,
        position: Position,
        function: &str,
        version: u32,
        input: Bytes,
        registry: &Registry,
    ) -> Result<NodeId, LimitError> {
        let limit = self.facts.limits.nodes;
        if self.count + 1 > limit {
            let operation = format!("call {function}");
            return Err(LimitError { operation, what: "nodes".to_owned(), found: self.count + 1, limit });
        }
        let path = match self.nodes.get_mut(&id) {
            Some(parent) => {
                parent.open_children += 1;
                parent.path.child(position)
            }
            None => Path::root(),
        };
        let state = InvocationState::fresh();
        let child = Invocation { path, function: function.to_owned(), version, input, state };
        self.draft.born(child.clone());
        Ok(self.add(Node::begun(child, registry)))
    }

    fn begin_sleep(&mut self, id: NodeId, position: Position, ms: u64) {
        self.write(id, Line::of(EntryKind::SleepBegun, position, "", sleep_input(ms)));
        let due_at = self.due_in(std::time::Duration::from_millis(ms));
        self.arm(id, position, TimerKind::Sleep, due_at);
    }

    /// Records the end of a try of a step: its result, its last error, or that another try follows.
    pub(super) fn step_done(&mut self, id: NodeId, done: StepDone) {
        let StepDone { position, policy, result } = done;
        let Some(cell) = self.cell(id) else { return };
        let attempt = cell.step_attempts(position) + 1;
        let name = cell.script(|script| script.name(position).to_owned());
        let error = match result {
            Ok(value) => {
                let number = self.next_number();
                let line = Line {
                    number: Some(number),
                    attempt,
                    ..Line::of(EntryKind::StepResolved, position, &name, value.clone())
                };
                self.write(id, line);
                return cell.complete(position, number, Completion::StepOk(value));
            }
            Err(error) => error,
        };
        let backoff = policy.backoff(attempt, crate::random::fraction()).filter(|_| error.transient);
        if let Some(backoff) = backoff.filter(|_| !cell.script(|script| script.is_done(position))) {
            let payload = encode(&StepRetriedPayload { message: error.message });
            self.write(id, Line { attempt, ..Line::of(EntryKind::StepRetried, position, &name, payload) });
            let due_at = self.due_in(backoff);
            self.arm(id, position, TimerKind::StepRetry, due_at);
            return cell.back_off(position, attempt);
        }
        let number = self.next_number();
        let rejection = Rejection::of_body(&error).to_bytes();
        let line = Line {
            number: Some(number),
            attempt,
            ..Line::of(EntryKind::StepRejected, position, &name, rejection.clone())
        };
        self.write(id, line);
        cell.complete(position, number, Completion::StepErr(rejection));
    }

    /// Records the tree that a start gave.
    pub(super) fn started(&mut self, id: NodeId, position: Position, input: &[u8], outcome: Bytes) {
        let Some(cell) = self.cell(id) else { return };
        let name = cell.script(|script| script.name(position).to_owned());
        let number = self.next_number();
        // Both parts are JSON texts already.
        let payload = [br#"{"input":"#, input, br#","outcome":"#, outcome.as_ref(), b"}"].concat().into();
        self.write(id, Line { number: Some(number), ..Line::of(EntryKind::Started, position, &name, payload) });
        cell.complete(position, number, Completion::Started(outcome));
    }

    /// Records that an attempt of the function is over and another follows after `backoff`.
    pub(super) fn retried(&mut self, id: NodeId, payload: Bytes, backoff: std::time::Duration) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let attempt = node.state.attempt;
        node.state.attempt += 1;
        self.write(id, Line { attempt, ..Line::of(EntryKind::Retried, Entry::NO_POSITION, "", payload) });
        let due_at = self.due_in(backoff);
        self.arm(id, Entry::NO_POSITION, TimerKind::FunctionRetry, due_at);
    }

    /// Fires the timers that are due at `now`; returns the nodes to look at. One whose invocation is not loaded stays
    /// until it is: its journal's next place is not known yet.
    pub(super) fn fire_due(&mut self, now: jiff::Timestamp) -> Vec<NodeId> {
        let due: Vec<Timer> = self.timers.iter().filter(|timer| timer.due_at <= now).cloned().collect();
        let mut woken = Vec::new();
        for timer in due {
            let Some(id) = self.by_path.get(&timer.path).copied() else { continue };
            let loaded = self.nodes.get(&id).is_some_and(|node| node.next_seq.is_some());
            if timer.kind == TimerKind::Sleep && !loaded {
                woken.push(id);
                continue;
            }
            self.clear_timers(|other| *other == timer);
            self.fire(id, &timer);
            woken.push(id);
        }
        woken
    }

    fn fire(&mut self, id: NodeId, timer: &Timer) {
        let position = timer.position;
        match timer.kind {
            TimerKind::Sleep => {
                let number = self.next_number();
                let line = Line::of(EntryKind::SleepEnded, position, "", Bytes::new());
                self.write(id, Line { number: Some(number), ..line });
                self.complete(id, position, number, Completion::SleepEnded);
            }
            // Nothing with a number is recorded for these, so the state itself says that the function runs again.
            TimerKind::StepRetry => {
                self.runs_again(id);
                if let Some(cell) = self.cell(id) {
                    cell.retry_step(position);
                }
            }
            TimerKind::FunctionRetry => {
                self.runs_again(id);
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.status = Status::Runnable;
                }
            }
        }
    }

    fn runs_again(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.state.seen = None;
        }
        self.save(id);
    }

    /// Gives a completion to a node: to its body if one is in memory, else to the next one.
    pub(super) fn complete(&mut self, id: NodeId, position: Position, number: u32, completion: Completion) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match &node.activation {
            Some(activation) => activation.cell.complete(position, number, completion),
            None => node.late.push((position, number, completion)),
        }
    }

    pub(super) fn cell(&self, id: NodeId) -> Option<std::sync::Arc<crate::activation::Cell>> {
        self.nodes.get(&id)?.activation.as_ref().map(|activation| std::sync::Arc::clone(&activation.cell))
    }

    fn arm(&mut self, id: NodeId, position: Position, kind: TimerKind, due_at: jiff::Timestamp) {
        if let Some(node) = self.nodes.get(&id) {
            self.set_timer(Timer { path: node.path.clone(), position, kind, due_at });
        }
    }

    fn due_in(&self, wait: std::time::Duration) -> jiff::Timestamp {
        let now = self.facts.clock.now();
        now.checked_add(wait).unwrap_or(jiff::Timestamp::MAX)
    }

    fn write(&mut self, id: NodeId, line: Line<'_>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        // Only a loaded node is polled or fired, so its next place is known.
        let seq = node.next_seq.get_or_insert(0);
        let entry = Entry {
            seq: *seq,
            kind: line.kind,
            position: line.position,
            number: line.number,
            attempt: line.attempt,
            name: line.name.to_owned(),
            payload: line.payload,
        };
        *seq += 1;
        self.draft.entry(&node.path, entry);
    }
}

impl<'a> Line<'a> {
    const fn of(kind: EntryKind, position: Position, name: &'a str, payload: Bytes) -> Self {
        Self { kind, position, number: None, attempt: 0, name, payload }
    }
}
