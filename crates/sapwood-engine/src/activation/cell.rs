//! What a body and its engine share: the script, the handles' wakers, and what the last poll did.

use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use sapwood_core::clock::after;
use sapwood_core::json::NotRecordable;
use sapwood_core::limits::LimitError;
use sapwood_core::retry::RetryPolicy;
use sapwood_core::store::OutboxEvent;
use sapwood_core::{EventId, Path, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::report::{Fresh, Notice, Report, RetryBasis, Stand, StartOrder, StepEnd, Stop, Work};
use crate::facts::Facts;
use crate::payload::{self, BodyResult, Parked, ParkedCode};
use crate::replay::{Asked, Completion, OpKind, RecordedOperation, Replay, Script};

/// What a step's handle does in a poll.
pub(crate) enum StepPoll {
    /// Give the completion.
    Ready(Completion),
    /// Run on.
    Run,
    /// Wait.
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepState {
    /// Waits until everything recorded is durable and the driver lets it begin.
    Wanted,
    /// Waits until its next attempt is due.
    BackingOff,
    /// An attempt is under way.
    InFlight,
    /// An attempt is over and not recorded yet.
    Ended,
}

/// What one body and its driver share.
pub(crate) struct Cell {
    facts: Arc<Facts>,
    path: Path,
    /// Behind a lock because a body may move between threads, not because body and driver work at once.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    script: Script,
    /// The thread that polls the body, while it is polled. An operation at another time, or from another thread, is
    /// misuse.
    polled_by: Option<ThreadId>,
    /// Set while a step's own future is polled: an operation inside of it is misuse.
    in_step: bool,
    /// Set once the engine tears the body down: the drops of its handles do not count.
    ending: bool,
    /// The waker that each awaited handle was polled with last.
    wakers: HashMap<Position, Waker>,
    /// Steps that were polled and have no result.
    steps: HashMap<Position, StepState>,
    /// Starts that wait for everything recorded to be durable.
    orders: HashMap<Position, StartOrder>,
    /// Starts that the driver has taken and that are not completed.
    orders_in_flight: HashSet<Position>,
    /// How many attempts each step without a result has made.
    attempts: HashMap<Position, u32>,
    /// Calls made so far, for the limit.
    calls: usize,
    /// Where the body asked for its last operation.
    last_asked: Option<&'static Location<'static>>,
    /// What the poll under way has done so far.
    report: Report,
    /// Why the body was stopped, or is to be.
    stop: Option<Stop>,
}

/// The payload of the unwinding that stops a body; raised without the panic hook, caught by the poll.
pub(crate) struct StopMarker;

impl Cell {
    pub(crate) fn new(facts: Arc<Facts>, path: Path, replay: Replay, backing_off: &[Position]) -> Self {
        let steps = backing_off.iter().map(|position| (*position, StepState::BackingOff)).collect();
        let state = State {
            script: Script::new(replay.record),
            attempts: replay.step_attempts,
            calls: replay.calls,
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
    pub(crate) fn next_position(&self) -> Position {
        self.state.lock().script.next_position()
    }

    /// Writes an operation, as [`Script::ask`] does. Stops the body if it does not follow its record.
    pub(crate) fn ask(&self, asked: &Asked<'_>) -> (Position, Option<RecordedOperation>) {
        let mut state = self.enter(asked.kind.name(), asked.location);
        state.last_asked = Some(asked.location);
        if asked.name.contains('\0') {
            let message = format!("the name {:?} of a {} has the character U+0000", asked.name, asked.kind.name());
            let position = state.script.next_position();
            self.stop_unrecordable(state, &message, position, asked.location);
        }
        let limit = self.facts.limits.entries;
        let count = state.script.next_position() as usize + 1;
        if count > limit.saturating_add(state.calls) {
            self.stop_for_limit(state, format!("{} {}", asked.kind.name(), asked.name), "entries", count, limit);
        }
        if let Some(input) = asked.input {
            state = self.check_payload(state, asked.kind, asked.name, input.len());
        }
        match state.script.ask(asked) {
            Ok(answer) => answer,
            Err(violation) => self.stop(state, Stop::Parked(violation)),
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

    /// Adds a call, which is recorded after the poll. Stops the body at a limit.
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

    /// Adds any other operation that is recorded after the poll.
    pub(crate) fn fresh(&self, fresh: Fresh) {
        self.state.lock().report.fresh.push(fresh);
    }

    /// The envelope of an event that this body emits.
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
            time: facts.environment.now(),
            tree: facts.tree,
            correlation: facts.correlation.clone(),
            causation: facts.causation(&self.path),
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

    /// Polls the handle of a start. The first poll orders the start, so one that is never awaited is never made.
    pub(crate) fn poll_start(
        &self,
        position: Position,
        waker: &Waker,
        location: &'static Location<'static>,
        order: &StartOrder,
    ) -> Option<Completion> {
        let mut state = self.enter("an awaited handle", location);
        let completion = state.poll(position, waker);
        if completion.is_none() && !state.script.is_complete(position) && !state.orders_in_flight.contains(&position) {
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
    ) -> StepPoll {
        let mut state = self.enter("an awaited step", location);
        if let Some(completion) = state.poll(position, waker) {
            return StepPoll::Ready(completion);
        }
        if state.script.is_complete(position) {
            return StepPoll::Wait;
        }
        match *state.steps.entry(position).or_insert(StepState::Wanted) {
            StepState::InFlight => {
                state.in_step = true;
                StepPoll::Run
            }
            StepState::Wanted | StepState::BackingOff | StepState::Ended => StepPoll::Wait,
        }
    }

    /// Ends what [`StepPoll::Run`] began, with the result if the attempt has ended.
    pub(crate) fn leave_step(
        &self,
        position: Position,
        policy: &RetryPolicy,
        location: &'static Location<'static>,
        result: Option<Result<BodyResult, NotRecordable>>,
    ) {
        let mut state = self.state.lock();
        state.in_step = false;
        let result = match result {
            None => return,
            Some(Ok(result)) => result,
            Some(Err(error)) => {
                let message = format!("the result of step {}: {error}", state.script.name(position));
                self.stop_unrecordable(state, &message, position, location)
            }
        };
        let bytes = match &result {
            Ok(value) => value.len(),
            Err(error) => error.error.len(),
        };
        if bytes > self.facts.limits.payload_bytes {
            let operation = format!("step {}", state.script.name(position));
            let limit = self.facts.limits.payload_bytes;
            self.stop_for_limit(state, operation, "payload bytes", bytes, limit);
        }
        let attempt = state.attempts.get(&position).copied().unwrap_or(0) + 1;
        let environment = &self.facts.environment;
        let wait = match &result {
            Err(error) if error.transient => policy.backoff(attempt, environment.fraction()),
            _ => None,
        };
        let retry_at = wait.map(|wait| after(environment.now(), wait));
        let name = state.script.name(position).to_owned();
        state.steps.insert(position, StepState::Ended);
        state.report.steps_ended.push(StepEnd { position, name, attempt, result, retry_at });
    }

    /// A handle was dropped.
    pub(crate) fn dropped(&self, position: Position) {
        let mut state = self.state.lock();
        // The body drops a handle only while it is polled. At any other time the engine is tearing the body down.
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

    /// The stored form of a value that the body gives to `what`. Stops the body if it could not be read back (R6).
    pub(crate) fn record<T: Serialize + DeserializeOwned>(
        &self,
        value: &T,
        what: std::fmt::Arguments<'_>,
        location: &'static Location<'static>,
    ) -> Bytes {
        match payload::record(value) {
            Ok(stored) => stored,
            Err(error) => {
                let state = self.state.lock();
                let position = state.script.next_position();
                self.stop_unrecordable(state, &format!("{what}: {error}"), position, location)
            }
        }
    }

    /// Stops the body if the key of its event has what the databases' texts cannot hold.
    pub(crate) fn check_key(&self, key: &str, event: &str, location: &'static Location<'static>) {
        if key.contains('\0') {
            let state = self.state.lock();
            let position = state.script.next_position();
            let message = format!("the key {key:?} of emit {event} has the character U+0000");
            self.stop_unrecordable(state, &message, position, location);
        }
    }

    fn stop_unrecordable(
        &self,
        state: MutexGuard<'_, State>,
        message: &str,
        position: Position,
        location: &'static Location<'static>,
    ) -> ! {
        let parked = Parked::new(ParkedCode::NotRecordable, message, position, location.to_string());
        self.stop(state, Stop::Parked(parked))
    }

    /// Stops the body because this build cannot read the stored form of a value.
    pub(crate) fn unreadable(
        &self,
        position: Position,
        location: &'static Location<'static>,
        what: &str,
        error: &dyn std::fmt::Display,
    ) -> ! {
        let state = self.state.lock();
        let message = format!("the result of {} is not readable as {what}: {error}", state.script.name(position));
        let parked = Parked::new(ParkedCode::Unreadable, message, position, location.to_string());
        self.stop(state, Stop::Parked(parked))
    }

    /// Takes the lock for an operation. Stops the body if the operation is not made by the body itself in its own poll.
    fn enter(&self, what: &str, location: &'static Location<'static>) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        let here = state.polled_by == Some(std::thread::current().id());
        if here && !state.in_step {
            return state;
        }
        let asked = if here {
            format!("{what} inside a step: only the function's body may use `cx`")
        } else {
            format!("{what} outside of its function's own poll: handles stay in the body that made them")
        };
        let position = state.script.next_position();
        let parked = Parked::new(ParkedCode::Misuse, asked, position, location.to_string());
        self.stop(state, Stop::Parked(parked))
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
        state.stop.get_or_insert(stop);
        state.ending = true;
        drop(state);
        std::panic::resume_unwind(Box::new(StopMarker))
    }

    // ---- the driver's side ----------------------------------------------------------------------------------------

    /// Begins a poll; with `deliver`, makes the next completion ready.
    pub(super) fn begin_poll(&self, deliver: bool) {
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
    }

    /// Ends a poll and takes what it did. If the body `waits`, this returns how it goes on; if it has ended, what
    /// decides about a retry.
    pub(super) fn end_poll(&self, waits: bool, is_woken: impl FnOnce() -> bool) -> AfterPoll {
        let mut state = self.state.lock();
        state.polled_by = None;
        state.in_step = false;
        state.script.end_of_poll();
        let mut report = std::mem::take(&mut state.report);
        for end in &mut report.steps_ended {
            // The body may have dropped the handle after the attempt ended, in the same poll.
            end.retry_at = end.retry_at.filter(|_| !state.script.is_done(end.position));
        }
        if report.fresh.iter().any(|fresh| matches!(fresh, Fresh::Sleep { .. })) {
            let now = self.facts.environment.now();
            for fresh in &mut report.fresh {
                if let Fresh::Sleep { ms, due_at, .. } = fresh {
                    *due_at = after(now, Duration::from_millis(*ms));
                }
            }
        }
        if let Some(stop) = state.stop.take() {
            return AfterPoll { report, how: How::Stopped(stop) };
        }
        if waits {
            let (stand, work) = state.stand(is_woken());
            return AfterPoll { report, how: How::Waits(stand, work) };
        }
        let retry = RetryBasis {
            position: state.script.next_position(),
            location: state.last_asked,
            forgotten: state.script.forgettable(),
            asked: state.script.asked_in_last_poll(),
            ..RetryBasis::default()
        };
        AfterPoll { report, how: How::Ended { unasked: state.unasked(), retry } }
    }

    /// Tells the body what became of its operations; returns how it goes on then.
    pub(super) fn tell(&self, notices: Vec<Notice>, is_woken: impl FnOnce() -> bool) -> (Stand, Work) {
        let mut state = self.state.lock();
        let mut wakers = Vec::new();
        for notice in notices {
            match notice {
                Notice::Completed { position, number, completion } => {
                    state.steps.remove(&position);
                    state.orders_in_flight.remove(&position);
                    state.script.complete(position, number, completion);
                }
                Notice::BackingOff { position, attempt } => {
                    state.attempts.insert(position, attempt);
                    // The handle may have been dropped while the end of the attempt waited for a commit.
                    if !state.script.is_done(position) {
                        state.steps.insert(position, StepState::BackingOff);
                    }
                }
                Notice::RetryDue { position } => {
                    if state.steps.get(&position) == Some(&StepState::BackingOff) {
                        state.steps.insert(position, StepState::Wanted);
                    }
                }
                Notice::StartFailed { position } => {
                    state.orders_in_flight.remove(&position);
                    wakers.extend(state.wakers.get(&position).cloned());
                }
            }
        }
        if !wakers.is_empty() {
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
            state = self.state.lock();
        }
        state.stand(is_woken())
    }

    /// Lets every wanted step begin, and takes the starts that were ordered, because everything recorded is durable.
    /// `None` if the body goes on by itself first: it may yet drop the handles of what it wants. `raise` is called before
    /// the handles are woken.
    pub(super) fn grant(
        &self,
        is_woken: impl FnOnce() -> bool,
        raise: impl FnOnce(),
    ) -> Option<Vec<(Position, StartOrder)>> {
        let mut state = self.state.lock();
        if is_woken() || state.script.has_offer() {
            return None;
        }
        let mut wakers = Vec::new();
        let State { steps, wakers: known, .. } = &mut *state;
        for (position, step) in steps.iter_mut().filter(|(_, step)| **step == StepState::Wanted) {
            *step = StepState::InFlight;
            wakers.extend(known.get(position).cloned());
        }
        let orders: Vec<_> = state.orders.drain().collect();
        state.orders_in_flight.extend(orders.iter().map(|(position, _)| *position));
        drop(state);
        raise();
        wakers.into_iter().for_each(Waker::wake);
        Some(orders)
    }

    /// Whether a start ordered by this body is in flight.
    pub(super) fn awaits_start(&self, position: Position) -> bool {
        self.state.lock().orders_in_flight.contains(&position)
    }

    /// From now on the drops of handles do not count.
    pub(super) fn end(&self) {
        self.state.lock().ending = true;
    }
}

/// What a poll left behind.
pub(super) struct AfterPoll {
    pub(super) report: Report,
    pub(super) how: How,
}

/// How a body is after a poll.
pub(super) enum How {
    /// It was stopped.
    Stopped(Stop),
    /// It waits.
    Waits(Stand, Work),
    /// It returned or panicked. `unasked` is the violation if its record has something that it never asked for.
    Ended { unasked: Option<Parked>, retry: RetryBasis },
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

    /// What the record has and the body, now waiting or returned, never asked for.
    fn unasked(&self) -> Option<Parked> {
        let parked = self.script.unasked()?;
        Some(Parked { location: self.location(), ..parked })
    }

    /// Where the body asked for its last operation; empty if it has asked for none.
    fn location(&self) -> String {
        self.last_asked.map(ToString::to_string).unwrap_or_default()
    }

    /// How the body goes on, if it waits.
    fn stand(&self, is_woken: bool) -> (Stand, Work) {
        let in_flight = |step: &StepState| matches!(step, StepState::InFlight | StepState::Ended);
        let work = Work {
            is_wanted: !self.orders.is_empty() || self.steps.values().any(|step| *step == StepState::Wanted),
            is_in_flight: !self.orders_in_flight.is_empty() || self.steps.values().any(in_flight),
        };
        let stand = if self.script.has_offer() {
            Stand::Offered
        } else if is_woken {
            Stand::Woken
        } else if let Some(parked) = self.unasked() {
            Stand::Stuck(parked)
        } else if work != Work::default() {
            Stand::Working
        } else if !self.script.has_open() {
            let message =
                "the body waits for something that is not durable: await only what `cx` gives, or do it in a step";
            let location = self.location();
            Stand::Stuck(Parked::new(ParkedCode::ForeignAwait, message, self.script.next_position(), location))
        } else {
            Stand::Suspended
        };
        (stand, work)
    }
}
