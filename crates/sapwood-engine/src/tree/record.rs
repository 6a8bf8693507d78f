//! Records what happened: what a poll wrote, how a step ended, which timers are due.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::clock::after;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::limits::LimitError;
use sapwood_core::tree::{Invocation, InvocationState, PromiseState, SettledPromise, Timer, TimerKind};
use sapwood_core::{FunctionVersion, Path, Position};

use super::model::Tree;
use super::node::{Move, Node, NodeId};
use super::timers::Due;
use crate::activation::{Fresh, Notice, StepEnd};
use crate::facts::{Bound, is_near};
use crate::findings::FindingCode;
use crate::payload::{Found, Rejection, Retried, SleepBegun, StartOutcome, Started, StepRetried, UndoRetried, encode};
use crate::replay::Completion;

/// A call, as its body made it.
struct Called {
    function: FunctionVersion,
    input: Bytes,
    undo: Option<FunctionVersion>,
    deadline: Option<Timestamp>,
}

/// A journal entry without its `seq`.
struct Line<'a> {
    kind: EntryKind,
    position: Position,
    number: Option<u32>,
    attempt: u32,
    name: &'a str,
    payload: Bytes,
}

/// The pause before the store is asked again to settle what is past its deadline by the clock of this worker, and was not by
/// its own.
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Tree {
    /// Records what a poll wrote; adds the children that are to run to `children`.
    ///
    /// # Errors
    /// The limit that the tree as a whole would pass; what the poll wrote before that is recorded.
    pub(super) fn record(
        &mut self,
        id: NodeId,
        fresh: Vec<Fresh>,
        children: &mut Vec<NodeId>,
    ) -> Result<(), LimitError> {
        for fresh in fresh {
            match fresh {
                Fresh::Call { position, function, version, input, undo, deadline } => {
                    let is_undoable = undo.is_some();
                    let called = Called { function: FunctionVersion::new(function, version), input, undo, deadline };
                    children.push(self.create_child(id, position, called)?);
                    if is_undoable {
                        self.is_undoable(id);
                    }
                }
                Fresh::Compensate { position, name, undo } => {
                    self.write(id, Line::of(EntryKind::UndoDeclared, position, &name, undo));
                    self.is_undoable(id);
                }
                Fresh::Sleep { position, ms, due_at } => {
                    self.write(id, Line::of(EntryKind::SleepBegun, position, "", encode(&SleepBegun { ms })));
                    self.arm(id, position, TimerKind::Sleep, due_at);
                }
                Fresh::Emit { position, event } => {
                    self.write(id, Line::of(EntryKind::Emitted, position, &event.cloud_type, event.content.clone()));
                    self.draft.event(*event);
                }
                Fresh::Value { position, kind, value } => {
                    self.write(id, Line::of(EntryKind::Valued, position, kind, value));
                }
                Fresh::Found { position, code, found } => {
                    self.write(id, Line::of(EntryKind::Found, position, code.name(), encode(&found)));
                }
                Fresh::Promise { position, name, mut made } => {
                    // One that is not earlier than its function's is none (D1), and no reader is shown one.
                    let of_function = self.deadline_of(id);
                    made.deadline =
                        made.deadline.filter(|deadline| of_function.is_none_or(|of_function| *deadline < of_function));
                    self.write(id, Line::of(EntryKind::PromiseMade, position, &name, encode(&made)));
                    if let Some(deadline) = made.deadline {
                        self.arm(id, position, TimerKind::Promise, deadline);
                    }
                }
                Fresh::Drop { position } => {
                    self.write(id, Line::of(EntryKind::Dropped, position, "", Bytes::new()));
                    self.forget_timer(id, position);
                    self.forsake(id, position, children);
                }
            }
        }
        Ok(())
    }

    fn create_child(&mut self, id: NodeId, position: Position, called: Called) -> Result<NodeId, LimitError> {
        let Called { function, input, undo, deadline } = called;
        let limit = self.facts.limits.nodes;
        if self.count + 1 > limit {
            let operation = format!("call {}", function.name());
            return Err(LimitError { operation, what: "nodes".to_owned(), found: self.count + 1, limit });
        }
        self.near_nodes(id, position, limit);
        let path = match self.nodes.get_mut(id) {
            Some(parent) => {
                parent.open_children.insert(position);
                parent.path.child(position)
            }
            None => Path::root(),
        };
        self.goes_forward(id);
        // A deadline that is not earlier than its caller's is none (D1).
        let of_caller = self.deadline_of(id);
        let deadline = deadline.filter(|deadline| of_caller.is_none_or(|of_caller| *deadline < of_caller));
        let state = InvocationState::fresh();
        let (function, version) = (function.name().to_owned(), function.version());
        Ok(self.create(Invocation { path, function, version, input, state, undo, deadline }))
    }

    /// Finds that the tree has nearly as many nodes as it may: once, because the count only grows, by one each time.
    fn near_nodes(&mut self, id: NodeId, position: Position, limit: usize) {
        let count = self.count + 1;
        if !is_near(count, limit) || is_near(self.count, limit) {
            return;
        }
        let (code, about) = (FindingCode::NearLimit, Bound::Nodes.name().to_owned());
        let message = format!("near the limit of a tree: {count} of {limit} {about}");
        if let Some(node) = self.nodes.get(id) {
            let function = node.definition.as_ref().map_or("", |definition| definition.location);
            self.facts.findings.log(self.facts.tree, &node.path, function, code, &about, &message);
        }
        self.write(id, Line::of(EntryKind::Found, position, code.name(), encode(&Found { about, message })));
    }

    /// Adds an invocation that has just been called.
    pub(super) fn create(&mut self, invocation: Invocation) -> NodeId {
        self.draft.created(invocation.clone());
        self.add(Node::created(invocation, &self.registry))
    }

    /// Records the end of an attempt of a step: its result, its last error, or that another attempt follows.
    pub(crate) fn step_ended(&mut self, id: NodeId, end: StepEnd) {
        let StepEnd { position, name, attempt, result, retry_at, transaction: _ } = end;
        let error = match result {
            Ok(value) => {
                let line = Line { attempt, ..Line::of(EntryKind::StepResolved, position, &name, value.clone()) };
                return self.write_completion(id, line, Completion::StepOk(value));
            }
            Err(error) => error,
        };
        if let Some(due_at) = retry_at {
            let payload = encode(&StepRetried { message: error.message });
            self.write(id, Line { attempt, ..Line::of(EntryKind::StepRetried, position, &name, payload) });
            self.arm(id, position, TimerKind::StepRetry, due_at);
            return self.notify(id, Notice::BackingOff { position, attempt });
        }
        let rejection = Rejection::of_body(&error).to_bytes();
        let line = Line { attempt, ..Line::of(EntryKind::StepRejected, position, &name, rejection.clone()) };
        self.write_completion(id, line, Completion::StepErr(rejection));
    }

    /// Records what became of a start by a consumer.
    pub(crate) fn started(&mut self, id: NodeId, position: Position, name: &str, started: &Started) {
        let line = Line::of(EntryKind::Started, position, name, encode(started));
        let outcome: StartOutcome = started.outcome.clone();
        self.write_completion(id, line, Completion::Started(outcome));
    }

    /// Records what has settled from outside, as much as the next turn has room for; returns the nodes to be polled. What is
    /// left of an invocation that goes forward no more has nobody to tell it to, and is not recorded.
    pub(crate) fn take_settled(&mut self) -> Vec<NodeId> {
        let mut woken = Vec::new();
        while !self.is_full()
            && let Some(SettledPromise { path, position, name, outcome, .. }) = self.settles.pop_front()
        {
            let Some(id) = self.nodes.at(&path) else { continue };
            if self.nodes.get(id).is_some_and(|node| node.state.promise == PromiseState::Pending) {
                self.forget_timer(id, position);
                let line = Line::of(EntryKind::PromiseSettled, position, &name, outcome.clone());
                self.write_completion(id, line, Completion::Promise(outcome));
                woken.push(id);
            }
        }
        woken
    }

    /// Records that an attempt of the function is over and another follows.
    pub(super) fn retried(&mut self, id: NodeId, retried: &Retried) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        let (path, attempt) = (node.path.clone(), node.state.attempt);
        node.state.attempt += 1;
        // A forgotten step may still have a timer.
        retried.forgotten.iter().for_each(|position| self.clear_timer(&path, *position));
        let payload = encode(retried);
        self.write(id, Line { attempt, ..Line::of(EntryKind::Retried, Entry::NO_POSITION, "", payload) });
    }

    /// Records that an operator asked for failed undos of an invocation to be made again: of the operation at a position, or
    /// of all.
    pub(super) fn undo_retried(&mut self, id: NodeId, position: Position, retried: &UndoRetried) {
        self.write(id, Line::of(EntryKind::UndoRetried, position, "", encode(retried)));
    }

    /// Fires what is due at `now`, at most so much; returns the nodes to be polled.
    pub(crate) fn fire_due(&mut self, now: Timestamp, most: usize) -> Vec<NodeId> {
        let mut woken = Vec::new();
        while woken.len() < most
            && let Some(due) = self.timers.take_due(now)
        {
            match due {
                Due::Deadline(path, deadline) => {
                    let id = self.nodes.at(&path);
                    woken.extend(id.map(|id| self.time_out(id, deadline)).unwrap_or_default());
                }
                Due::Timer(timer) => {
                    let Some(id) = self.nodes.at(&timer.path) else { continue };
                    // A reader has settled a caller by its deadline, so this one is cancelled next and goes no further (D2).
                    if self.is_overdue(id, now) {
                        continue;
                    }
                    if timer.kind == TimerKind::Promise {
                        self.asks_for_settles = true;
                        self.timers.set(Timer { due_at: after(now, ASK_AGAIN), ..timer });
                        continue;
                    }
                    self.clear_timer(&timer.path, timer.position);
                    self.fire(id, &timer);
                    woken.push(id);
                }
            }
        }
        woken
    }

    fn fire(&mut self, id: NodeId, timer: &Timer) {
        let position = timer.position;
        match timer.kind {
            TimerKind::Sleep => {
                let line = Line::of(EntryKind::SleepEnded, position, "", Bytes::new());
                self.write_completion(id, line, Completion::SleepEnded);
            }
            // These record no completion, so the state itself must make the function run again.
            TimerKind::StepRetry => {
                self.runs_again(id);
                self.notify(id, Notice::RetryDue { position });
            }
            TimerKind::FunctionRetry => {
                self.runs_again(id);
                self.on(id, Move::BackoffOver);
            }
            // Its store settles it.
            TimerKind::Promise => {}
        }
    }

    /// Whatever the function has seen, it runs again.
    fn runs_again(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.state.seen = None;
        }
        self.save(id);
    }

    /// A function that waits for something durable: it has seen every completion so far.
    pub(crate) fn suspend(&mut self, id: NodeId) {
        let number = self.number;
        if !self.nodes.on(id, Move::Suspended) {
            return;
        }
        if let Some(node) = self.nodes.get_mut(id)
            && node.state.seen != Some(number)
        {
            node.state.seen = Some(number);
            self.save(id);
        }
    }

    /// Nothing awaits the end of an operation any longer: its timer, if it has one, wakes nobody.
    fn forget_timer(&mut self, id: NodeId, position: Position) {
        if let Some(path) = self.nodes.get(id).map(|node| node.path.clone()) {
            self.clear_timer(&path, position);
        }
    }

    pub(super) fn arm(&mut self, id: NodeId, position: Position, kind: TimerKind, due_at: Timestamp) {
        if let Some(node) = self.nodes.get(id) {
            self.set_timer(Timer { path: node.path.clone(), position, kind, due_at });
        }
    }

    /// Writes an entry that completes an operation: it takes the next completion number, and the body is told.
    fn write_completion(&mut self, id: NodeId, line: Line<'_>, completion: Completion) {
        // What ended after its invocation had settled completes nothing, and takes no number: numbers have no gaps.
        if self.nodes.get(id).is_none() {
            return;
        }
        let (number, position) = (self.next_number(), line.position);
        self.write(id, Line { number: Some(number), ..line });
        self.notify(id, Notice::Completed { position, number, completion });
    }

    fn write(&mut self, id: NodeId, line: Line<'_>) {
        // A step that ends after the deadline lets nothing go on: its end is recorded together with the time out (K4).
        let ends_a_step =
            matches!(line.kind, EntryKind::StepResolved | EntryKind::StepRejected | EntryKind::StepRetried);
        if !ends_a_step || !self.is_overdue(id, self.now) {
            self.goes_forward(id);
        }
        let Some(node) = self.nodes.get_mut(id) else { return };
        let entry = Entry {
            seq: node.next_seq,
            kind: line.kind,
            position: line.position,
            number: line.number,
            attempt: line.attempt,
            name: line.name.to_owned(),
            payload: line.payload,
        };
        node.next_seq += 1;
        self.draft.entry(&node.path, entry);
    }
}

impl<'a> Line<'a> {
    const fn of(kind: EntryKind, position: Position, name: &'a str, payload: Bytes) -> Self {
        Self { kind, position, number: None, attempt: 0, name, payload }
    }
}
