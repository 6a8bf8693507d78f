//! One activation's reading of its journal.

use std::collections::BTreeMap;

use sapwood_core::Position;
use sapwood_core::json::canonical;

use super::operation::{Asked, Completion, OpKind, words};
use super::record::{Record, RecordedOperation};
use crate::payload::Parked;

/// How far an activation had come at a delivery. It decides F5: equal marks mean that nothing was delivered, asked or
/// dropped in between.
///
/// It names what was delivered, not what was recorded: a replay, which knows all completions from the start, marks the
/// same. What the poll itself asks for and drops is not part of it, because the last poll of a failed attempt is
/// forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    delivered: u32,
    asked: Position,
    drops: usize,
}

/// One operation that the body has asked for.
#[derive(Debug)]
struct Op {
    kind: OpKind,
    name: String,
    outcome: Outcome,
    /// Polled at least once.
    awaited: bool,
    /// Offered in a poll that did not take it, and not polled since.
    passed_over: bool,
    /// Its result was taken, or its handle was dropped, or it has none.
    done: bool,
}

/// How far an operation has come.
#[derive(Debug)]
enum Outcome {
    Open,
    /// It ended, under this number.
    Ended(u32, Completion),
    /// It ended, and the body has the result: it is not kept twice.
    Taken,
}

impl Op {
    /// The number under which a poll may offer it.
    fn offer(&self) -> Option<u32> {
        match self.outcome {
            Outcome::Ended(number, _) if self.awaited && !self.passed_over && !self.done => Some(number),
            _ => None,
        }
    }

    /// Whether it is open and its end would go on with the body by itself. A step or a start is none such: the body
    /// has to poll its handle for it to run.
    fn may_wake(&self) -> bool {
        let is_open = matches!(self.outcome, Outcome::Open);
        is_open && self.awaited && !self.done && matches!(self.kind, OpKind::Call | OpKind::Sleep | OpKind::Promise)
    }
}

/// One activation's reading of its journal.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// What is recorded and the body has not asked for yet.
    record: Record,
    /// The operations asked for, by position.
    ops: Vec<Op>,
    /// Completions that a poll may offer, by number: those of handles that are alive and awaited.
    offers: BTreeMap<u32, Position>,
    /// How many open operations may wake the body.
    waking: usize,
    /// The operation whose handle the poll under way makes ready.
    offered: Option<Position>,
    /// The number that was delivered last.
    delivered: u32,
    /// Handles dropped so far.
    drops: usize,
    /// Handles dropped before this poll began.
    drops_before: usize,
    /// Positions asked for before this poll began.
    asked_before: Position,
    /// Failed steps, each with the mark at its delivery.
    failed_steps: Vec<(Position, Mark)>,
    /// Entries of the journal so far, with those to come of what was asked for.
    entries: usize,
}

impl Script {
    /// A script of what is recorded. `spent_entries` are those of the journal that belong to no operation of the record.
    pub(crate) fn new(record: Record, spent_entries: usize) -> Self {
        Self { record, entries: spent_entries, ..Self::default() }
    }

    /// Entries of the journal so far, with those to come of what was asked for.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// An entry is recorded that belongs to no operation: of an attempt that is followed by another.
    pub(crate) fn spend_entry(&mut self) {
        self.entries += 1;
    }

    /// The position the next operation takes.
    pub(crate) fn next_position(&self) -> Position {
        // The limits keep the count of operations far below the largest position.
        self.ops.len() as Position
    }

    /// Whether the record has operations that the body has not asked for yet.
    pub(crate) fn is_replaying(&self) -> bool {
        !self.record.operations.is_empty()
    }

    /// Takes the next position for an operation. Returns the position, and what the record has there, if it has the
    /// operation.
    ///
    /// # Errors
    /// The violation, if the record has something else at this position.
    pub(crate) fn ask(&mut self, asked: &Asked<'_>) -> Result<(Position, Option<RecordedOperation>), Parked> {
        let position = self.next_position();
        let recorded = self.record.operations.remove(&position);
        match &recorded {
            Some(recorded) if !matches(recorded, asked) => {
                let recorded = words(recorded.kind, &recorded.name, recorded.input.as_deref());
                return Err(Parked::divergence(position, recorded, asked.words(), asked.location.to_string()));
            }
            // If a later operation is recorded, so is everything before it that is recorded when it is written.
            None if asked.kind.is_recorded_when_written() && self.is_replaying() => {
                let recorded = "a step without a result, or nothing";
                return Err(Parked::divergence(position, recorded, asked.words(), asked.location.to_string()));
            }
            _ => {}
        }
        let outcome = match recorded.as_ref().and_then(|recorded| recorded.completion.clone()) {
            Some((number, completion)) => Outcome::Ended(number, completion),
            None => Outcome::Open,
        };
        self.entries += asked.kind.entries();
        self.ops.push(Op {
            kind: asked.kind,
            name: asked.name.to_owned(),
            outcome,
            awaited: false,
            passed_over: false,
            done: !asked.kind.has_handle(),
        });
        Ok((position, recorded))
    }

    /// Records that an operation ended. Numbers only grow, so what was offered before keeps its place.
    pub(crate) fn complete(&mut self, position: Position, number: u32, completion: Completion) {
        if position >= self.next_position() {
            // Not asked for yet: it completed while the activation was still replaying. It joins the record.
            if let Some(recorded) = self.record.operations.get_mut(&position) {
                recorded.completion.get_or_insert((number, completion));
            }
            return;
        }
        let given_up = self.change(position, |op| {
            if !matches!(op.outcome, Outcome::Open) {
                return 0;
            }
            // Nobody reads the result of a handle that is gone. Its entry was not expected any longer.
            op.outcome = if op.done { Outcome::Taken } else { Outcome::Ended(number, completion) };
            if op.done { op.kind.entries_of_end() } else { 0 }
        });
        self.entries += given_up.unwrap_or_default();
    }

    /// A handle was polled: its completion, if this poll makes it the ready one.
    pub(crate) fn polled(&mut self, position: Position) -> Option<Completion> {
        let is_offered = self.offered == Some(position);
        let taken = self.change(position, |op| {
            op.passed_over = false;
            // The first poll is never ready (R7).
            if !std::mem::replace(&mut op.awaited, true) || !is_offered || op.done {
                return None;
            }
            match std::mem::replace(&mut op.outcome, Outcome::Taken) {
                Outcome::Ended(number, completion) => {
                    op.done = true;
                    Some((number, completion))
                }
                other => {
                    op.outcome = other;
                    None
                }
            }
        });
        let (number, completion) = taken.flatten()?;
        self.offered = None;
        self.delivered = number;
        if matches!(completion, Completion::StepErr(_)) {
            self.failed_steps.push((position, self.mark()));
        }
        Some(completion)
    }

    /// The function of a call whose handle was never awaited.
    pub(crate) fn unused_call(&self, position: Position) -> Option<&str> {
        let op = self.ops.get(position as usize)?;
        (op.kind == OpKind::Call && !op.awaited).then_some(&*op.name)
    }

    /// A handle was dropped while the body goes on. Returns whether the drop is still to be recorded.
    pub(crate) fn dropped(&mut self, position: Position) -> bool {
        let drop = |op: &mut Op| {
            if std::mem::replace(&mut op.done, true) {
                return None;
            }
            match op.outcome {
                Outcome::Open => Some(op.kind.entries_of_end()),
                Outcome::Ended(..) | Outcome::Taken => {
                    op.outcome = Outcome::Taken;
                    Some(0)
                }
            }
        };
        let Some(not_to_come) = self.change(position, drop).flatten() else { return false };
        if self.offered == Some(position) {
            self.offered = None;
        }
        self.drops += 1;
        let is_new = !self.record.dropped.remove(&position);
        self.entries = self.entries + usize::from(is_new) - not_to_come;
        is_new
    }

    /// Changes an operation, and with it what is known of all of them. `None` if the body has not asked for it.
    fn change<T>(&mut self, position: Position, change: impl FnOnce(&mut Op) -> T) -> Option<T> {
        let op = self.ops.get_mut(position as usize)?;
        let (offer_before, woke_before) = (op.offer(), op.may_wake());
        let answer = change(op);
        let (offer, wakes) = (op.offer(), op.may_wake());
        if offer != offer_before {
            offer_before.map(|number| self.offers.remove(&number));
            offer.map(|number| self.offers.insert(number, position));
        }
        self.waking = self.waking + usize::from(wakes) - usize::from(woke_before);
        Some(answer)
    }

    /// Chooses what the next poll makes ready: of the handles alive and awaited, the one with the lowest number (R7).
    pub(crate) fn offer(&mut self) -> Option<Position> {
        self.begin_poll();
        self.offered = self.offers.first_key_value().map(|(_, position)| *position);
        self.offered
    }

    /// Begins a poll that makes nothing ready.
    pub(crate) fn offer_nothing(&mut self) {
        self.begin_poll();
        self.offered = None;
    }

    fn begin_poll(&mut self) {
        self.asked_before = self.next_position();
        self.drops_before = self.drops;
    }

    /// Whether a poll would make something ready.
    pub(crate) fn has_offer(&self) -> bool {
        !self.offers.is_empty()
    }

    /// Ends a poll: an offer that was not taken is passed over until its handle is polled again.
    pub(crate) fn end_of_poll(&mut self) {
        if let Some(position) = self.offered.take() {
            self.change(position, |op| op.passed_over = true);
        }
    }

    /// What the record has and the body, now waiting or returned, never asked for.
    pub(crate) fn unasked(&self) -> Option<Parked> {
        if let Some((position, recorded)) = self.record.operations.first_key_value() {
            let recorded = words(recorded.kind, &recorded.name, recorded.input.as_deref());
            return Some(Parked::divergence(*position, recorded, "nothing", ""));
        }
        let position = *self.record.dropped.first()?;
        Some(Parked::divergence(position, "a dropped handle", "the handle, still", ""))
    }

    /// Whether the operation at `position` has ended.
    pub(crate) fn is_complete(&self, position: Position) -> bool {
        self.ops.get(position as usize).is_some_and(|op| !matches!(op.outcome, Outcome::Open))
    }

    /// Whether the body has taken the result of the operation at `position`, or has dropped its handle.
    pub(crate) fn is_done(&self, position: Position) -> bool {
        self.ops.get(position as usize).is_some_and(|op| op.done)
    }

    /// Whether a call, a sleep or a promise is open and awaited, so that its end goes on with the body. A handle that was
    /// never polled wakes nobody (R7).
    pub(crate) const fn awaits_another(&self) -> bool {
        self.waking > 0
    }

    /// Failed steps after whose delivery nothing was recorded: a retry runs them again (F5).
    pub(crate) fn forgettable(&self) -> Vec<Position> {
        let now = self.mark();
        self.failed_steps.iter().filter(|(_, mark)| *mark == now).map(|(position, _)| *position).collect()
    }

    /// The name of the operation at `position`.
    pub(crate) fn name(&self, position: Position) -> &str {
        self.ops.get(position as usize).map_or("", |op| &op.name)
    }

    fn mark(&self) -> Mark {
        Mark { delivered: self.delivered, asked: self.asked_before, drops: self.drops_before }
    }
}

/// Whether an operation is the one that is recorded, by its kind, its name and the fields of its input.
fn matches(recorded: &RecordedOperation, asked: &Asked<'_>) -> bool {
    recorded.kind == asked.kind
        && recorded.name == asked.name
        && match (&recorded.input, asked.input) {
            (Some(recorded), Some(now)) => canonical::covers(recorded, now),
            (None, _) => true,
            (Some(_), None) => false,
        }
}

#[cfg(test)]
mod tests;
