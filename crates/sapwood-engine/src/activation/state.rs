//! How a body stands between two of its operations: what it reads, what it has done in this poll, whom it waits for.

use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::task::Waker;
use std::thread::ThreadId;

use sapwood_core::Position;

use super::report::{Report, Stand, StartOrder, Stop, Work};
use super::steps::{StepState, Steps};
use crate::findings::FindingCode;
use crate::payload::{Parked, ParkedCode};
use crate::replay::{Completion, Script};

/// What becomes of an attempt under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepKind {
    /// It ends, and is recorded (K4).
    Binding,
    /// A cancellation drops it.
    Interruptible,
    /// A cancellation drops it, and nothing of it was.
    Transactional,
}

/// What a step's handle does in a poll.
pub(crate) enum StepPoll {
    /// Give the completion.
    Ready(Completion),
    /// Run on.
    Run,
    /// Wait.
    Wait,
}

/// What a cell guards: what of its body is known between two of its operations.
#[derive(Default)]
pub(super) struct State {
    pub(super) script: Script,
    /// The thread that polls the body, while it is polled. An operation at another time, or from another thread, is
    /// misuse.
    pub(super) polled_by: Option<ThreadId>,
    /// Set while a step's own future is polled: an operation inside of it is misuse.
    pub(super) in_step: bool,
    /// Set once the engine tears the body down: the drops of its handles do not count.
    pub(super) ending: bool,
    /// The waker that each awaited handle was polled with last.
    pub(super) wakers: HashMap<Position, Waker>,
    /// Wakes the body itself: what stops it from outside of its poll is acted on in a poll.
    pub(super) body: Option<Waker>,
    /// Steps that were polled and have no result.
    pub(super) steps: Steps,
    /// Starts that wait for everything recorded to be durable.
    pub(super) orders: HashMap<Position, StartOrder>,
    /// Starts that the driver has taken and that are not completed.
    pub(super) orders_in_flight: HashSet<Position>,
    /// How many attempts each step without a result has made.
    pub(super) attempts: HashMap<Position, u32>,
    /// Attempts of the function that its policy no longer counts.
    pub(super) spent_attempts: u32,
    /// The names of the promises asked for so far, each with its position.
    pub(super) promises: HashMap<String, Position>,
    /// Calls made so far, for the limit.
    pub(super) calls: usize,
    /// What was found, and about what: each is recorded once in an invocation.
    pub(super) found: HashSet<(FindingCode, String)>,
    /// Bytes that the poll under way has written so far.
    pub(super) poll_bytes: usize,
    /// Bytes of results that the body was given, and may hold.
    pub(super) held_bytes: usize,
    /// Where the body asked for its last operation.
    pub(super) last_asked: Option<&'static Location<'static>>,
    /// Where its function is written, as `file:line:column`.
    pub(super) function: &'static str,
    /// What the poll under way has done so far.
    pub(super) report: Report,
    /// Why the body was stopped, or is to be.
    pub(super) stop: Option<Stop>,
}

impl State {
    /// Polls a handle: its completion, if it is the ready one, and a waker that it no longer needs. To drop a waker may
    /// run an author's code, so it is dropped without the lock.
    pub(super) fn poll(&mut self, position: Position, waker: &Waker) -> (Option<Completion>, Option<Waker>) {
        let completion = self.script.polled(position);
        let stale = match &completion {
            Some(_) => self.wakers.remove(&position),
            None if self.wakers.get(&position).is_some_and(|known| known.will_wake(waker)) => None,
            None => self.wakers.insert(position, waker.clone()),
        };
        (completion, stale)
    }

    /// Polls the handle of a step that is not ready.
    pub(super) fn poll_open_step(&mut self, position: Position) -> StepPoll {
        if self.script.is_complete(position) {
            return StepPoll::Wait;
        }
        match self.steps.state(position) {
            // What this poll wrote before is not durable, and the closure may depend on it (R12).
            Some(StepState::Granted) if !self.report.fresh.is_empty() => self.steps.set(position, StepState::Wanted),
            Some(StepState::Granted) => {
                self.steps.set(position, StepState::InFlight);
                self.in_step = true;
                return StepPoll::Run;
            }
            Some(StepState::InFlight) => {
                self.in_step = true;
                return StepPoll::Run;
            }
            Some(StepState::Wanted | StepState::BackingOff | StepState::Ended) => {}
            None => self.steps.set(position, StepState::Wanted),
        }
        StepPoll::Wait
    }

    /// What the record has and the body, now waiting or returned, never asked for.
    pub(super) fn unasked(&self) -> Option<Parked> {
        let parked = self.script.unasked()?;
        Some(Parked { location: self.location(), ..parked })
    }

    /// Where the body asked for its last operation; if for none yet, where its function is written.
    pub(super) fn location(&self) -> String {
        self.last_asked.map_or_else(|| self.function.to_owned(), ToString::to_string)
    }

    /// Whether an attempt of a step, or a start, is under way or not recorded yet.
    pub(super) fn is_in_flight(&self) -> bool {
        self.steps.is_any_in_flight() || !self.orders_in_flight.is_empty()
    }

    /// How the body goes on, if it waits.
    pub(super) fn stand(&self, is_woken: bool) -> (Stand, Work) {
        let work = Work {
            is_wanted: self.steps.is_any_wanted() || !self.orders.is_empty(),
            is_in_flight: self.is_in_flight(),
            is_binding: self.steps.is_any_binding() || !self.orders_in_flight.is_empty(),
            has_transaction: self.steps.is_any_transacting(),
            awaits_another: self.script.awaits_another(),
        };
        let stand = if self.script.has_offer() {
            Stand::Offered
        } else if is_woken {
            Stand::Woken
        } else if let Some(parked) = self.unasked() {
            Stand::Stuck(parked)
        } else if work.is_wanted || work.is_in_flight {
            Stand::Working
        } else if !work.awaits_another && !self.steps.is_any_backing_off() {
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
