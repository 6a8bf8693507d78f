//! What a body and its engine share: the script, the handles' wakers, and what the last poll did.

use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use sapwood_core::clock::after;
use sapwood_core::json::NotRecordable;
use sapwood_core::limits::{LimitError, MAX_NAME_BYTES};
use sapwood_core::retry::RetryPolicy;
use sapwood_core::store::OutboxEvent;
use sapwood_core::{Deadline, EventId, FunctionVersion, Path, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::report::{Fresh, Notice, OpenTransaction, Report, RetryBasis, Stand, StartOrder, StepEnd, Stop, Work};
use super::state::{State, StepKind, StepPoll};
use super::steps::{StepState, Steps};
use super::waker::wake_expected;
use crate::facts::{Bound, Facts};
use crate::findings::FindingCode;
use crate::payload::{self, BodyResult, Parked, ParkedCode, PromiseMade};
use crate::replay::{Asked, Completion, OpKind, RecordedOperation, Replay, Script};

/// What one body and its driver share.
pub(crate) struct Cell {
    pub(super) facts: Arc<Facts>,
    pub(super) path: Path,
    /// When its invocation settles at the latest.
    deadline: Option<Timestamp>,
    /// Behind a lock because a body may move between threads, not because body and driver work at once.
    state: Mutex<State>,
}

/// The payload of the unwinding that stops a body; raised without the panic hook, caught by the poll.
pub(crate) struct StopMarker;

impl Cell {
    /// A cell of a body that is written at `function`, as `file:line:column`.
    pub(crate) fn new(
        facts: Arc<Facts>,
        (path, deadline): (Path, Option<Timestamp>),
        function: &'static str,
        replay: Replay,
        backing_off: &[Position],
    ) -> Self {
        let state = State {
            script: Script::new(replay.record, replay.spent_entries),
            attempts: replay.step_attempts,
            spent_attempts: replay.spent_attempts,
            calls: replay.calls,
            found: replay.found,
            function,
            steps: Steps::backing_off(backing_off),
            ..State::default()
        };
        Self { facts, path, deadline, state: Mutex::new(state) }
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// When its invocation settles at the latest.
    pub(crate) const fn deadline(&self) -> Option<Timestamp> {
        self.deadline
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
        if asked.name.len() > MAX_NAME_BYTES {
            let (operation, found) = (payload::excerpt(asked.title()), asked.name.len());
            self.stop_for_limit(state, operation, "bytes of the name", found, MAX_NAME_BYTES);
        }
        if asked.kind == OpKind::Promise {
            state = self.check_promise(state, asked);
        }
        let entries = state.script.entries() + asked.kind.entries();
        state = self.check_entries(state, || asked.title(), entries);
        if let Some(input) = asked.input {
            state = self.check_payload(state, asked.kind, asked.name, input.len());
        }
        match state.script.ask(asked) {
            Ok((position, recorded)) => {
                let completion = recorded.as_ref().and_then(|recorded| recorded.completion.as_ref());
                state.held_bytes += completion.map_or(0, |(_, completion)| completion.len());
                (position, recorded)
            }
            Err(violation) => self.stop(state, Stop::Parked(violation)),
        }
    }

    /// Adds a call, which is recorded after the poll. Stops the body at a limit.
    pub(crate) fn call(
        &self,
        position: Position,
        (function, version): (&'static str, u32),
        input: Bytes,
        undo: Option<FunctionVersion>,
        deadline: Option<Deadline>,
    ) {
        let mut state = self.state.lock();
        let limits = &self.facts.limits;
        state.calls += 1;
        if state.calls > limits.fan_out {
            let (found, limit) = (state.calls, limits.fan_out);
            self.stop_for_limit(state, format!("call {function}"), "fan-out", found, limit);
        }
        let calls = state.calls;
        self.near(&mut state, Bound::FanOut, calls, limits.fan_out);
        if self.path.depth() + 1 > limits.depth {
            let (found, limit) = (self.path.depth() + 1, limits.depth);
            self.stop_for_limit(state, format!("call {function}"), "depth", found, limit);
        }
        self.near(&mut state, Bound::Depth, self.path.depth() + 1, limits.depth);
        let mut until = None;
        if let Some(deadline) = deadline {
            let (held, time) = self.check_deadline(state, || format!("call {function}"), deadline);
            (state, until) = (held, Some(time));
        }
        state = self.write(state, || format!("call {function}"), input.len());
        state.report.fresh.push(Fresh::Call { position, function, version, input, undo, deadline: until });
    }

    /// Adds a compensation, which is recorded after the poll.
    pub(crate) fn compensate(&self, position: Position, name: &str, undo: Bytes) {
        let mut state = self.write(self.state.lock(), || format!("compensate {name}"), undo.len());
        state.report.fresh.push(Fresh::Compensate { position, name: name.to_owned(), undo });
    }

    /// Adds a promise, which is recorded after the poll. Stops the body if no store can hold its deadline.
    pub(crate) fn promise(&self, position: Position, name: &str, schema: Box<RawValue>, deadline: Option<Deadline>) {
        let bytes = schema.get().len();
        let mut state = self.check_payload(self.state.lock(), OpKind::Promise, name, bytes);
        state = self.write(state, || format!("promise {name}"), bytes);
        let mut until = None;
        if let Some(deadline) = deadline {
            let (held, time) = self.check_deadline(state, || format!("promise {name}"), deadline);
            (state, until) = (held, Some(time));
        }
        let made = PromiseMade { schema, deadline: until };
        state.report.fresh.push(Fresh::Promise { position, name: name.to_owned(), made });
    }

    /// Adds an event, which is recorded after the poll.
    pub(crate) fn emit(&self, position: Position, event: Box<OutboxEvent>) {
        let bytes = event.bytes();
        let mut state = self.check_payload(self.state.lock(), OpKind::Emit, &event.cloud_type, bytes);
        state = self.write(state, || format!("emit {}", event.cloud_type), bytes);
        state.report.fresh.push(Fresh::Emit { position, event });
    }

    /// Adds an operation without an input of the author's, which is recorded after the poll.
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

    /// Polls the handle of a call, a sleep, a promise or a start.
    pub(crate) fn poll_handle(
        &self,
        position: Position,
        waker: &Waker,
        location: &'static Location<'static>,
    ) -> Option<Completion> {
        let mut state = self.enter("an awaited handle", location);
        let (completion, stale) = state.poll(position, waker);
        drop(state);
        drop(stale);
        completion
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
        let (completion, stale) = state.poll(position, waker);
        if completion.is_none() && !state.script.is_complete(position) && !state.orders_in_flight.contains(&position) {
            state.orders.entry(position).or_insert_with(|| order.clone());
        }
        drop(state);
        drop(stale);
        completion
    }

    /// Polls the handle of a step.
    pub(crate) fn poll_step(
        &self,
        position: Position,
        waker: &Waker,
        location: &'static Location<'static>,
        kind: StepKind,
    ) -> StepPoll {
        let mut state = self.enter("an awaited step", location);
        let (completion, stale) = state.poll(position, waker);
        let polled = match completion {
            Some(completion) => StepPoll::Ready(completion),
            None => state.poll_open_step(position),
        };
        if matches!(polled, StepPoll::Run) {
            match kind {
                StepKind::Binding => {}
                StepKind::Interruptible => state.steps.may_be_interrupted(position),
                StepKind::Transactional => {
                    state.steps.may_be_interrupted(position);
                    state.steps.transacts(position);
                }
            }
        }
        drop(state);
        drop(stale);
        polled
    }

    /// Ends what [`StepPoll::Run`] began, with the result if the attempt has ended.
    pub(crate) fn leave_step(
        &self,
        position: Position,
        policy: &RetryPolicy,
        location: &'static Location<'static>,
        result: Option<Result<BodyResult, NotRecordable>>,
        transaction: Option<OpenTransaction>,
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
        self.near(&mut state, Bound::PayloadBytes, bytes, self.facts.limits.payload_bytes);
        let attempt = state.attempts.get(&position).copied().unwrap_or(0) + 1;
        let wait = match &result {
            Err(error) if error.transient => policy.backoff(attempt, self.facts.environment.fraction()),
            _ => None,
        };
        let retry_at = wait.map(|wait| after(self.facts.clock.now(), wait));
        // Past the deadline there is no attempt (F8).
        let retry_at = retry_at.filter(|retry_at| self.deadline.is_none_or(|deadline| *retry_at < deadline));
        let name = state.script.name(position).to_owned();
        if retry_at.is_some() {
            // Beside the entry of its result, each attempt that is followed by another has one of its own.
            state.script.spend_entry();
            let entries = state.script.entries();
            state = self.check_entries(state, || format!("step {name}"), entries);
        }
        state.steps.set(position, StepState::Ended);
        if transaction.is_some() {
            state.steps.transacts(position);
        }
        state.report.steps_ended.push(StepEnd { position, name, attempt, result, retry_at, transaction });
    }

    /// A handle was dropped.
    pub(crate) fn dropped(&self, position: Position) {
        let mut state = self.state.lock();
        // The body drops a handle only while it is polled. At any other time the engine is tearing the body down.
        if state.ending || state.polled_by.is_none() {
            return;
        }
        if let Some(called) = state.script.unused_call(position).map(ToOwned::to_owned) {
            let message = format!(
                "call {called} is never awaited, and dropping its handle cancels it: if nobody needs its result, emit an event"
            );
            self.finds(&mut state, FindingCode::UnusedCall, called, message);
        }
        let stale = state.wakers.remove(&position);
        state.steps.remove(position);
        state.orders.remove(&position);
        if state.script.dropped(position) {
            state.report.fresh.push(Fresh::Drop { position });
        }
        drop(state);
        drop(stale);
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

    /// Stops the body because a step of it timed out and its error type cannot say so.
    pub(crate) fn step_timed_out(&self, message: String) -> ! {
        self.stop(self.state.lock(), Stop::StepTimedOut(message))
    }

    /// The name of a step, and how many attempts it has made before this one.
    pub(crate) fn step(&self, position: Position) -> (String, u32) {
        let state = self.state.lock();
        (state.script.name(position).to_owned(), state.attempts.get(&position).copied().unwrap_or(0))
    }

    /// Stops the body because it does what nothing could carry out.
    pub(crate) fn misuse(&self, position: Position, location: &'static Location<'static>, message: &str) -> ! {
        let parked = Parked::new(ParkedCode::Misuse, message, position, location.to_string());
        self.stop(self.state.lock(), Stop::Parked(parked))
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

    pub(super) fn stop_for_limit(
        &self,
        state: MutexGuard<'_, State>,
        operation: String,
        what: &str,
        found: usize,
        limit: usize,
    ) -> ! {
        self.stop(state, Stop::Limit(LimitError { operation, what: what.to_owned(), found, limit }))
    }

    pub(super) fn stop(&self, mut state: MutexGuard<'_, State>, stop: Stop) -> ! {
        state.stop.get_or_insert(stop);
        state.ending = true;
        // Outside of the body's own poll nobody else would look at it.
        let body = state.body.clone().filter(|_| state.polled_by.is_none());
        drop(state);
        if let Some(body) = body {
            wake_expected(&body);
        }
        std::panic::resume_unwind(Box::new(StopMarker))
    }

    // ---- the driver's side ----------------------------------------------------------------------------------------

    /// The waker of the body.
    pub(super) fn set_body(&self, body: Waker) {
        self.state.lock().body = Some(body);
    }

    /// Something woke the body that is neither itself nor a step of it nor the engine (R10). With a step in flight, that
    /// may have been a task of the step; else the body is stopped, because a replay would not see it.
    pub(super) fn woken_by_another(&self) {
        let mut state = self.state.lock();
        if state.is_in_flight() {
            let message =
                "the body awaits something that is not durable beside a step, which keeps its slot".to_owned();
            return self.finds(&mut state, FindingCode::ForeignAwait, String::new(), message);
        }
        let message = "something woke the body that is not durable, so that a replay would not see it: await only what \
                       `cx` gives, or do it in a step";
        let parked = Parked::new(ParkedCode::ForeignAwait, message, state.script.next_position(), state.location());
        state.stop.get_or_insert(Stop::Parked(parked));
    }

    /// Whether the body was stopped outside of its poll: it is not polled again.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().stop.is_some()
    }

    /// Bytes of results that the body was given, and may hold.
    pub(super) fn held_bytes(&self) -> usize {
        self.state.lock().held_bytes
    }

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
            wake_expected(&waker);
        }
    }

    /// Ends a poll and takes what it did. If the body `waits`, this returns how it goes on; if it has ended, what
    /// decides about a retry.
    pub(super) fn end_poll(&self, waits: bool, is_woken: impl FnOnce() -> bool) -> AfterPoll {
        let mut state = self.state.lock();
        state.polled_by = None;
        state.in_step = false;
        state.poll_bytes = 0;
        state.script.end_of_poll();
        state.steps.take_back();
        let mut report = std::mem::take(&mut state.report);
        for end in report.steps_ended.iter_mut().filter(|_| waits) {
            // The body may have dropped the handle after the attempt ended, in the same poll. The drops of a body that has
            // ended are judged with its end.
            end.retry_at = end.retry_at.filter(|_| !state.script.is_done(end.position));
        }
        if report.fresh.iter().any(|fresh| matches!(fresh, Fresh::Sleep { .. })) {
            let now = self.facts.clock.now();
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
            last_asked: state.last_asked,
            function: state.function,
            forgotten: state.script.forgettable(),
            spent_attempts: state.spent_attempts,
            drew: report.fresh.iter().any(|fresh| matches!(fresh, Fresh::Value { .. })),
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
                    state.held_bytes += completion.len();
                    state.steps.remove(position);
                    state.orders_in_flight.remove(&position);
                    state.script.complete(position, number, completion);
                }
                Notice::BackingOff { position, attempt } => {
                    state.attempts.insert(position, attempt);
                    // The handle may have been dropped while the end of the attempt waited for a commit.
                    if !state.script.is_done(position) {
                        state.steps.set(position, StepState::BackingOff);
                    }
                }
                Notice::RetryDue { position } => {
                    if state.steps.state(position) == Some(StepState::BackingOff) {
                        state.steps.set(position, StepState::Wanted);
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
            wakers.iter().for_each(wake_expected);
            state = self.state.lock();
        }
        state.stand(is_woken())
    }

    /// Lets every wanted step begin in the next poll, and takes the starts that were ordered, because everything recorded
    /// is durable. `None` if the body goes on by itself first: it may yet drop the handles of what it wants. `raise` is
    /// called before the handles are woken.
    pub(super) fn grant(&self, goes_on: bool, raise: impl FnOnce()) -> Option<Vec<(Position, StartOrder)>> {
        let mut state = self.state.lock();
        if goes_on || state.script.has_offer() {
            return None;
        }
        let granted = state.steps.grant();
        let wakers: Vec<Waker> = granted.iter().filter_map(|position| state.wakers.get(position).cloned()).collect();
        let orders: Vec<_> = state.orders.drain().collect();
        state.orders_in_flight.extend(orders.iter().map(|(position, _)| *position));
        drop(state);
        raise();
        wakers.iter().for_each(wake_expected);
        Some(orders)
    }

    /// Whether a start ordered by this body is in flight.
    pub(super) fn awaits_start(&self, position: Position) -> bool {
        self.state.lock().orders_in_flight.contains(&position)
    }

    /// Whether it has a transaction open.
    pub(super) fn has_transaction(&self) -> bool {
        self.state.lock().steps.is_any_transacting()
    }

    /// The transaction of a step is committed now.
    pub(super) fn commits_step(&self, position: Position) {
        self.state.lock().steps.commits(position);
    }

    /// The end of a step was never: its transaction was rolled back.
    pub(super) fn void_step(&self, position: Position) {
        self.state.lock().steps.remove(position);
    }

    /// Forgets the starts that it ordered; returns whether a step of it is in flight.
    pub(super) fn forget_starts(&self) -> bool {
        let mut state = self.state.lock();
        state.orders_in_flight.clear();
        state.is_in_flight()
    }

    /// Whether the body has dropped the handle of an operation, or has its result.
    pub(super) fn is_done(&self, position: Position) -> bool {
        self.state.lock().script.is_done(position)
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
