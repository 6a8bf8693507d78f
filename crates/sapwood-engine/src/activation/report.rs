//! What a body and its driver tell each other: what a poll did, how the body goes on, what became of its operations.

use std::fmt;
use std::panic::Location;

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::limits::LimitError;
use sapwood_core::store::{OutboxEvent, StepTransaction};
use sapwood_core::{Deadline, FunctionVersion, Position};

use crate::findings::FindingCode;
use crate::payload::{BodyResult, Found, Parked, PromiseMade};
use crate::replay::Completion;

/// An operation that the last poll performed and that is not recorded yet.
#[derive(Debug)]
pub(crate) enum Fresh {
    /// A child is to be created.
    Call {
        position: Position,
        function: &'static str,
        version: u32,
        input: Bytes,
        undo: Option<FunctionVersion>,
        deadline: Option<Timestamp>,
    },
    /// A sleep begins; its time counts from the end of the poll.
    Sleep { position: Position, ms: u64, due_at: Timestamp },
    /// An event is emitted.
    Emit { position: Position, event: Box<OutboxEvent> },
    /// A value was drawn.
    Value { position: Position, kind: &'static str, value: Bytes },
    /// A compensation was declared.
    Compensate { position: Position, name: String, undo: Bytes },
    /// An external promise is made.
    Promise { position: Position, name: String, made: PromiseMade },
    /// Something was found that the author should know.
    Found { position: Position, code: FindingCode, found: Found },
    /// A handle was dropped.
    Drop { position: Position },
}

/// How an attempt of a step ended, with all that recording it needs.
#[derive(Debug)]
pub(crate) struct StepEnd {
    pub(crate) position: Position,
    pub(crate) name: String,
    /// The attempt that ended, counted from 1.
    pub(crate) attempt: u32,
    pub(crate) result: BodyResult,
    /// When the next attempt is due, if there is one: the error is transient, the policy has an attempt left, and the
    /// body has not dropped the handle.
    pub(crate) retry_at: Option<Timestamp>,
    /// What its result is committed with, if it is a transactional step that succeeded.
    pub(crate) transaction: Option<OpenTransaction>,
}

/// A transaction that waits for its commit.
pub(crate) struct OpenTransaction(pub(crate) Box<dyn StepTransaction>);

impl fmt::Debug for OpenTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenTransaction")
    }
}

impl StepEnd {
    /// The size of its result, or of its error.
    pub(crate) fn bytes(&self) -> usize {
        match &self.result {
            Ok(value) => value.len(),
            Err(error) => error.error.len() + error.message.len(),
        }
    }
}

/// A consumer's order to start a root, once everything recorded is durable.
#[derive(Debug, Clone)]
pub(crate) struct StartOrder {
    pub(crate) function: &'static str,
    pub(crate) version: u32,
    pub(crate) input: Bytes,
    /// The caller's id, as the author gave it.
    pub(crate) id: Option<String>,
    /// When its root settles at the latest.
    pub(crate) deadline: Option<Deadline>,
}

/// Why a body was stopped in the middle of a poll.
#[derive(Debug, Clone)]
pub(crate) enum Stop {
    /// It is to be parked.
    Parked(Parked),
    /// It met a limit.
    Limit(LimitError),
    /// A step of it timed out, and its error type cannot say so.
    StepTimedOut(String),
}

/// What one poll did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) fresh: Vec<Fresh>,
    pub(crate) steps_ended: Vec<StepEnd>,
}

/// What became of a body in a poll.
#[derive(Debug)]
pub(crate) enum Polled {
    /// It waits.
    Pending(Stand, Work),
    /// The activation is over.
    Finished(Finish),
}

/// How an activation ended by itself.
#[derive(Debug)]
pub(crate) enum Finish {
    /// The body returned.
    Returned(BodyResult, RetryBasis),
    /// It panicked, with this message.
    Panicked(String, RetryBasis),
    /// It is to be parked.
    Parked(Parked),
    /// It met a limit.
    Limited(LimitError),
    /// A step of it timed out at its last attempt, and its error type cannot say so.
    StepTimedOut(String),
}

/// What decides about a retry of a function, besides its policy (F5).
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RetryBasis {
    /// The position that the next operation would have taken.
    pub(crate) position: Position,
    /// Where the body asked for its last operation.
    pub(crate) last_asked: Option<&'static Location<'static>>,
    /// Where its function is written, as `file:line:column`.
    pub(crate) function: &'static str,
    /// Failed steps after whose delivery nothing was recorded: a retry runs them again.
    pub(crate) forgotten: Vec<Position>,
    /// Whether the last poll drew a value: a retry draws another.
    pub(crate) drew: bool,
    /// Attempts of the function that its policy no longer counts.
    pub(crate) spent_attempts: u32,
    /// When the attempt ended, and a random fraction in `0.0..1.0`; only of an error that may be retried.
    pub(crate) ended_at: Timestamp,
    pub(crate) fraction: f64,
}

impl RetryBasis {
    /// Whether another attempt could end otherwise than with the same error.
    pub(crate) const fn can_end_otherwise(&self) -> bool {
        self.drew || !self.forgotten.is_empty()
    }

    /// Where the body asked for its last operation, as `file:line:column`; if for none, where its function is written.
    pub(crate) fn location(&self) -> String {
        self.last_asked.map_or_else(|| self.function.to_owned(), ToString::to_string)
    }
}

/// How a body that waits goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stand {
    /// At once: a completion is ready for one of its handles.
    Offered,
    /// At once: it woke itself, and its driver has heard of it.
    Woken,
    /// When the work that is under way or wanted makes progress.
    Working,
    /// When something durable ends; nothing of it is in flight, so it may leave memory (S1).
    Suspended,
    /// Never: it left operations of its record out, or awaits a future that is not one of `cx`'s handles.
    Stuck(Parked),
}

/// The work of a body besides being polled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// A step or a start waits for everything recorded to be durable.
    pub(crate) is_wanted: bool,
    /// An attempt of a step, or a start, is under way or not recorded yet.
    pub(crate) is_in_flight: bool,
    /// Something that is under way has to end, and to be recorded, also if the body is cancelled (K4).
    pub(crate) is_binding: bool,
    /// A transaction of its author is open.
    pub(crate) has_transaction: bool,
    /// It awaits a call, a sleep or a promise, perhaps beside its own work.
    pub(crate) awaits_another: bool,
}

impl Work {
    /// Whether the slot of the body is lent while it waits: a step of it is in flight, so that it cannot leave memory, and
    /// what it awaits besides may need a slot (S2, S5). With a transaction open it keeps it: others may wait for that.
    pub(crate) const fn lends(self) -> bool {
        self.is_in_flight && self.awaits_another && !self.is_wanted && !self.has_transaction
    }
}

/// What became of an operation, told to its body.
#[derive(Debug)]
pub(crate) enum Notice {
    /// It ended, under this completion number.
    Completed { position: Position, number: u32, completion: Completion },
    /// Its step waits for the next attempt.
    BackingOff { position: Position, attempt: u32 },
    /// The next attempt of its step is due.
    RetryDue { position: Position },
    /// Its start was not made; its handle orders it again when it is polled next.
    StartFailed { position: Position },
}

impl Notice {
    /// The size of what it brings.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Completed { completion, .. } => completion.len(),
            Self::BackingOff { .. } | Self::RetryDue { .. } | Self::StartFailed { .. } => 0,
        }
    }
}
