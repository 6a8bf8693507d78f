//! What a body and its engine share: the script, the handles' wakers, and what the last poll did.

use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::thread::ThreadId;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use sapwood_core::clock::Clock;
use sapwood_core::limits::{LimitError, Limits};
use sapwood_core::retry::RetryPolicy;
use sapwood_core::store::OutboxEvent;
use sapwood_core::{EventId, Path, Position, TreeId};

use crate::registry::BodyError;
use crate::replay::{Asked, Completion, OpKind, Recorded, Replayed, Script, Violation};

/// What is true of a whole tree; shared by its activations.
pub(crate) struct Facts {
    pub(crate) tree: TreeId,
    pub(crate) context: &'static str,
    pub(crate) correlation: String,
    pub(crate) traceparent: Option<String>,
    pub(crate) lanes: u16,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
}

/// An operation that the last poll wrote and the record does not know.
#[derive(Debug)]
pub(crate) enum Fresh {
    /// A child is to be created.
    Call { position: Position, function: &'static str, version: u32, input: Bytes },
    /// A sleep begins.
    Sleep { position: Position, ms: u64 },
    /// An event.
    Emit { position: Position, event: Box<OutboxEvent> },
    /// A drawn value.
    Value { position: Position, kind: &'static str, value: Bytes },
    /// A handle was dropped.
    Drop { position: Position },
}

/// How a try of a step ended.
#[derive(Debug)]
pub(crate) struct StepDone {
    pub(crate) position: Position,
    pub(crate) policy: RetryPolicy,
    pub(crate) result: Result<Bytes, BodyError>,
}

/// A root to be started by a consumer, once everything recorded is durable.
#[derive(Debug, Clone)]
pub(crate) struct StartOrder {
    pub(crate) function: &'static str,
    pub(crate) version: u32,
    pub(crate) input: Bytes,
    pub(crate) id: Option<String>,
}

/// Why a body was stopped in the middle of a poll.
#[derive(Debug, Clone)]
pub(crate) enum Stop {
    /// It does not follow its record.
    Violation(Violation),
    /// It met a bound.
    Limit(LimitError),
}

/// What one poll did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) fresh: Vec<Fresh>,
    pub(crate) steps_done: Vec<StepDone>,
    pub(crate) stop: Option<Stop>,
}

/// What a step's handle is to do.
pub(crate) enum StepTurn {
    /// Give the completion.
    Ready(Completion),
    /// Run on.
    Run,
    /// Wait.
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepState {
    /// Waits for everything recorded to be durable, then for its turn.
    Wanted,
    /// Waits for its next try.
    BackingOff,
    /// A try is under way.
    InFlight,
    /// A try is over and not recorded yet.
    Done,
}

/// See the module.
pub(crate) struct Cell {
    facts: Arc<Facts>,
    path: Path,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    script: Script,
    /// Set while the body is polled: by whom.
    polled_by: Option<ThreadId>,
    /// Set while a step's own future is polled.
    in_step: bool,
    /// The body is going away for a reason that is not the author's: drops do not count.
    ending: bool,
    wakers: HashMap<Position, Waker>,
    steps: HashMap<Position, StepState>,
    orders: HashMap<Position, StartOrder>,
    /// Orders handed to the engine, not completed.
    orders_under_way: HashSet<Position>,
    attempts: HashMap<Position, u32>,
    calls: usize,
    report: Report,
}

/// The payload of the unwinding that stops a body; raised without the panic hook, caught by the poll.
pub(crate) struct StopMarker;

impl Cell {
    pub(crate) fn new(facts: Arc<Facts>, path: Path, replayed: Replayed, backing_off: &[Position]) -> Self {
        let steps = backing_off.iter().map(|position| (*position, StepState::BackingOff)).collect();
        let state = State {
            script: Script::new(replayed.recording),
            attempts: replayed.step_attempts,
            calls: replayed.calls,
            steps,
            ..State::default()
        };
        Self { facts, path, state: Mutex::new(state) }
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    // ---- the body's side ------------------------------------------------------------------------------------------

    /// The position the next operation takes.
    pub(crate) fn cursor(&self) -> Position {
        self.state.lock().script.cursor()
    }

    /// Writes an operation; see [`Script::ask`]. Stops the body where it does not follow its record.
    pub(crate) fn ask(&self, asked: &Asked<'_>) -> (Position, Option<Recorded>) {
        let mut state = self.enter(asked.kind.name(), asked.location);
        let limit = self.facts.limits.entries;
        let count = state.script.cursor() as usize + 1;
        if count > limit.saturating_add(state.calls) {
            self.stop_for_limit(state, format!("{} {}", asked.kind.name(), asked.name), "entries", count, limit);
        }
        if let Some(input) = asked.input {
            state = self.check_payload(state, asked.kind, asked.name, input.len());
        }
        match state.script.ask(asked) {
            Ok(answer) => answer,
            Err(violation) => self.stop(state, Stop::Violation(violation)),
        }
    }

    fn check_payload<'a>(
        &self,
        state: MutexGuard<'a, State>,
        kind: OpKind,
        name: &str,
        bytes: usize,
    ) -> MutexGuard<'a, State> {
        let (what, limit) = match kind {
            OpKind::Emit => ("event bytes", self.facts.limits.event_bytes),
            _ => ("payload bytes", self.facts.limits.payload_bytes),
        };
        if bytes > limit {
            self.stop_for_limit(state, format!("{} {name}", kind.name()), what, bytes, limit);
        }
        state
    }

    /// Orders a child.
    pub(crate) fn call(&self, position: Position, function: &'static str, version: u32, input: Bytes) {
        let mut state = self.state.lock();
        let limits = &self.facts.limits;
        state.calls += 1;
        if state.calls > limits.fan_out {
            let (found, limit) = (state.calls, limits.fan_out);
            self.stop_for_limit(state, format!("call {function}"), "fan-out", found, limit);
        }
        if self.path.depth() + 1 > limits.depth {
            let (found, limit) = (self.path.depth() + 1, limits.depth);
            self.stop_for_limit(state, format!("call {function}"), "depth", found, limit);
        }
        state.report.fresh.push(Fresh::Call { position, function, version, input });
    }

    /// Records anything else that is recorded as it is written.
    pub(crate) fn fresh(&self, fresh: Fresh) {
        self.state.lock().report.fresh.push(fresh);
    }

    /// An event's envelope.
    pub(crate) fn envelope(
        &self,
        position: Position,
        topic: String,
        key: String,
        cloud_type: &str,
        content: Bytes,
    ) -> OutboxEvent {
        let facts = &self.facts;
        OutboxEvent {
            id: EventId::of(facts.tree, &self.path, position),
            lane: sapwood_core::store::lane_of(&topic, &key, facts.lanes),
            topic,
            key,
            cloud_type: cloud_type.to_owned(),
            source: sapwood_core::event::source_of(facts.context),
            time: facts.clock.now(),
            tree: facts.tree,
            correlation: facts.correlation.clone(),
            causation: crate::replay::causation_of(facts.tree, &self.path),
            traceparent: facts.traceparent.clone(),
            content,
        }
    }

    /// Polls the handle of a call, a sleep or a start.
    pub(crate) fn poll_handle(
        &self,
        position: Position,
        waker: &Waker,
        location: &'static Location<'static>,
    ) -> Option<Completion> {
        let mut state = self.enter("an awaited handle", location);
        state.poll(position, waker)
    }

    /// Polls the handle of a start: orders it at the first poll, so that it is made once it is awaited.
    pub(crate) fn poll_start(
        &self,
        position: Position,
        waker: &Waker,
        location: &'static Location<'static>,
        order: &StartOrder,
    ) -> Option<Completion> {
        let mut state = self.enter("an awaited handle", location);
        let completion = state.poll(position, waker);
        if completion.is_none() && !state.script.is_complete(position) && !state.orders_under_way.contains(&position) {
            state.orders.entry(position).or_insert_with(|| order.clone());
        }
        completion
    }

    /// Polls the handle of a step.
    pub(crate) fn poll_step(
        &self,
        position: Position,
        waker: &Waker,
        location: &'static Location<'static>,
    ) -> StepTurn {
        let mut state = self.enter("an awaited step", location);
        if let Some(completion) = state.poll(position, waker) {
            return StepTurn::Ready(completion);
        }
        if state.script.is_complete(position) {
            return StepTurn::Wait;
        }
        match *state.steps.entry(position).or_insert(StepState::Wanted) {
            StepState::InFlight => {
                state.in_step = true;
                StepTurn::Run
            }
            StepState::Wanted | StepState::BackingOff | StepState::Done => StepTurn::Wait,
        }
    }

    /// Ends what [`StepTurn::Run`] began.
    pub(crate) fn leave_step(&self, done: Option<StepDone>) {
        let mut state = self.state.lock();
        state.in_step = false;
        let Some(done) = done else { return };
        let bytes = match &done.result {
            Ok(value) => value.len(),
            Err(error) => error.error.len(),
        };
        if bytes > self.facts.limits.payload_bytes {
            let operation = format!("step {}", state.script.name(done.position));
            let limit = self.facts.limits.payload_bytes;
            self.stop_for_limit(state, operation, "payload bytes", bytes, limit);
        }
        state.steps.insert(done.position, StepState::Done);
        state.report.steps_done.push(done);
    }

    /// A handle was dropped.
    pub(crate) fn dropped(&self, position: Position) {
        let mut state = self.state.lock();
        // Only the body's own poll drops what it wants to drop; whoever else does, tears it down.
        if state.ending || state.polled_by.is_none() {
            return;
        }
        state.wakers.remove(&position);
        state.steps.remove(&position);
        state.orders.remove(&position);
        if state.script.dropped(position) {
            state.report.fresh.push(Fresh::Drop { position });
        }
    }

    /// Stops the body for a value whose recorded form this build cannot read.
    pub(crate) fn unreadable(&self, position: Position, what: &str, error: &dyn std::fmt::Display) -> ! {
        let state = self.state.lock();
        let violation = Violation {
            position,
            recorded: format!("a value that is not readable as {what}: {error}"),
            asked: format!("{what}, for {}", state.script.name(position)),
            location: String::new(),
        };
        self.stop(state, Stop::Violation(violation))
    }

    /// Takes the lock for an operation, and stops whoever has no business here.
    fn enter(&self, what: &str, location: &'static Location<'static>) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        let here = state.polled_by == Some(std::thread::current().id());
        if here && !state.in_step {
            return state;
        }
        let asked = if here {
            format!("{what} inside a step: only the function's body may use its context")
        } else {
            format!("{what} outside of its function's own poll: handles stay in the body that made them")
        };
        let violation = Violation::misuse(state.script.cursor(), asked, location.to_string());
        self.stop(state, Stop::Violation(violation))
    }

    fn stop_for_limit(
        &self,
        state: MutexGuard<'_, State>,
        operation: String,
        what: &str,
        found: usize,
        limit: usize,
    ) -> ! {
        self.stop(state, Stop::Limit(LimitError { operation, what: what.to_owned(), found, limit }))
    }

    fn stop(&self, mut state: MutexGuard<'_, State>, stop: Stop) -> ! {
        state.report.stop.get_or_insert(stop);
        state.ending = true;
        drop(state);
        std::panic::resume_unwind(Box::new(StopMarker))
    }

    // ---- the engine's side ----------------------------------------------------------------------------------------

    /// Begins a poll; with `deliver`, makes the next completion ready. Says whether one is.
    pub(crate) fn begin_poll(&self, deliver: bool) -> bool {
        let mut state = self.state.lock();
        state.polled_by = Some(std::thread::current().id());
        let offered = if deliver {
            state.script.offer()
        } else {
            state.script.offer_nothing();
            None
        };
        let waker = offered.and_then(|position| state.wakers.get(&position).cloned());
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        offered.is_some()
    }

    /// Ends a poll and takes what it did.
    pub(crate) fn end_poll(&self) -> Report {
        let mut state = self.state.lock();
        state.polled_by = None;
        state.in_step = false;
        state.script.end_of_poll();
        std::mem::take(&mut state.report)
    }

    /// From here on drops do not count.
    pub(crate) fn end(&self) {
        self.state.lock().ending = true;
    }

    /// Lets every wanted step begin, and takes the starts that were ordered: everything recorded is durable.
    pub(crate) fn grant(&self) -> Vec<(Position, StartOrder)> {
        let mut state = self.state.lock();
        let mut wakers = Vec::new();
        let State { steps, wakers: known, .. } = &mut *state;
        for (position, step) in steps.iter_mut().filter(|(_, step)| **step == StepState::Wanted) {
            *step = StepState::InFlight;
            wakers.extend(known.get(position).cloned());
        }
        let orders: Vec<_> = state.orders.drain().collect();
        state.orders_under_way.extend(orders.iter().map(|(position, _)| *position));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        orders
    }

    /// Records that an operation ended.
    pub(crate) fn complete(&self, position: Position, number: u32, completion: Completion) {
        let mut state = self.state.lock();
        state.steps.remove(&position);
        state.orders_under_way.remove(&position);
        state.script.complete(position, number, completion);
    }

    /// Whether a start ordered by this body is under way.
    pub(crate) fn awaits_order(&self, position: Position) -> bool {
        self.state.lock().orders_under_way.contains(&position)
    }

    /// A start was not made: its handle, when it is polled next, orders it again.
    pub(crate) fn order_failed(&self, position: Position) {
        let mut state = self.state.lock();
        state.orders_under_way.remove(&position);
        let waker = state.wakers.get(&position).cloned();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// A step waits for its next try.
    pub(crate) fn back_off(&self, position: Position, attempt: u32) {
        let mut state = self.state.lock();
        state.attempts.insert(position, attempt);
        state.steps.insert(position, StepState::BackingOff);
    }

    /// A step's next try is due.
    pub(crate) fn retry_step(&self, position: Position) {
        let mut state = self.state.lock();
        if state.steps.get(&position) == Some(&StepState::BackingOff) {
            state.steps.insert(position, StepState::Wanted);
        }
    }

    /// Tries the step at `position` has made before the one under way.
    pub(crate) fn step_attempts(&self, position: Position) -> u32 {
        self.state.lock().attempts.get(&position).copied().unwrap_or(0)
    }

    /// Whether a poll would make something ready.
    pub(crate) fn has_offer(&self) -> bool {
        self.state.lock().script.has_offer()
    }

    /// Whether a step or a start waits for everything recorded to be durable.
    pub(crate) fn wants(&self) -> bool {
        let state = self.state.lock();
        !state.orders.is_empty() || state.steps.values().any(|step| *step == StepState::Wanted)
    }

    /// Whether a try of a step, or a start, is under way.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.state.lock();
        let busy = |step: &StepState| matches!(step, StepState::InFlight | StepState::Done);
        !state.orders_under_way.is_empty() || state.steps.values().any(busy)
    }

    /// Reads the script.
    pub(crate) fn script<T>(&self, read: impl FnOnce(&Script) -> T) -> T {
        read(&self.state.lock().script)
    }
}

impl State {
    fn poll(&mut self, position: Position, waker: &Waker) -> Option<Completion> {
        let completion = self.script.polled(position);
        match &completion {
            Some(_) => {
                self.wakers.remove(&position);
            }
            None => match self.wakers.get_mut(&position) {
                Some(known) => known.clone_from(waker),
                None => {
                    self.wakers.insert(position, waker.clone());
                }
            },
        }
        completion
    }
}
