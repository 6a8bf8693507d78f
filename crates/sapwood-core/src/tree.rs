//! The records of a tree and of its invocations, as stores keep them and as readers see them.

use bytes::Bytes;
use jiff::Timestamp;

use crate::code::stored_codes;
use crate::control::ControlRecord;
use crate::journal::Entry;
use crate::{FunctionVersion, Path, Position, TreeId, WorkerId};

/// The state of a tree. Stored by code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum TreeState {
    /// Something in it runs, or is waiting to be claimed.
    Running = 0,
    /// Everything in it waits; it has no owner and needs no memory.
    Suspended = 1,
    /// Nothing can go on before an operator or a deploy mends an invocation.
    Parked = 2,
    /// Its root's deadline passed: it has its outcome, and something of it is still to be closed.
    TimingOut = 3,
    /// Its root returned a result.
    Resolved = 4,
    /// Its root ended with an error.
    Rejected = 5,
    /// Its root was cancelled.
    Cancelled = 6,
    /// Its root's deadline passed.
    TimedOut = 7,
}

stored_codes!(TreeState {
    Running: "running",
    Suspended: "suspended",
    Parked: "parked",
    TimingOut: "timed_out",
    Resolved: "resolved",
    Rejected: "rejected",
    Cancelled: "cancelled",
    TimedOut: "timed_out",
});

impl TreeState {
    /// Whether the tree has its outcome, which never changes after that.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Running | Self::Suspended | Self::Parked => false,
            Self::TimingOut | Self::Resolved | Self::Rejected | Self::Cancelled | Self::TimedOut => true,
        }
    }

    /// Whether nothing of the tree is left to do.
    #[must_use]
    pub const fn is_closed(self) -> bool {
        match self {
            Self::Running | Self::Suspended | Self::Parked | Self::TimingOut => false,
            Self::Resolved | Self::Rejected | Self::Cancelled | Self::TimedOut => true,
        }
    }
}

/// The state of an invocation's promise. Stored by code.
///
/// ```text
///            decided             settled            closed
/// Pending ──► Returned ────────────────────────────► Resolved | Rejected
///    ├──────► Cancelling ──────────────────────────► Cancelled
///    ├────────────────────────► TimingOut ─────────► TimedOut
///    └─────────────────────────────────────────────► any of these at once, if nothing is left to close
/// ```
///
/// A promise settles, and tells its outcome, once its invocation is closed: its children are, and it has undone what it
/// had to undo (N1). Only a deadline settles first and closes after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum PromiseState {
    /// No outcome yet.
    Pending = 0,
    /// The body returned `Ok`; not closed yet.
    ReturnedOk = 1,
    /// The body ended with an error; not closed yet.
    ReturnedErr = 2,
    /// It is cancelled; not closed yet.
    Cancelling = 3,
    /// Settled by its deadline; not closed yet.
    TimingOut = 4,
    /// Settled with a result.
    Resolved = 5,
    /// Settled with an error.
    Rejected = 6,
    /// Settled by cancellation.
    Cancelled = 7,
    /// Settled by its deadline.
    TimedOut = 8,
}

stored_codes!(PromiseState {
    Pending: "pending",
    ReturnedOk: "returned",
    ReturnedErr: "returned",
    Cancelling: "cancelling",
    TimingOut: "timed_out",
    Resolved: "resolved",
    Rejected: "rejected",
    Cancelled: "cancelled",
    TimedOut: "timed_out",
});

impl PromiseState {
    /// Whether the promise has its outcome.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        match self {
            Self::Pending | Self::ReturnedOk | Self::ReturnedErr | Self::Cancelling => false,
            Self::TimingOut | Self::Resolved | Self::Rejected | Self::Cancelled | Self::TimedOut => true,
        }
    }

    /// Whether nothing of the invocation is left to do.
    #[must_use]
    pub const fn is_closed(self) -> bool {
        match self {
            Self::Pending | Self::ReturnedOk | Self::ReturnedErr | Self::Cancelling | Self::TimingOut => false,
            Self::Resolved | Self::Rejected | Self::Cancelled | Self::TimedOut => true,
        }
    }
}

/// How far an invocation that did not resolve has come in undoing what it did (SEMANTICS N1). Stored by code.
///
/// ```text
/// None ──► Undoable ──► Compensating ──┬──► Compensated
///             │              ▲          └──► CompensationFailed
///             │              └─── retried ──────────┘
///             └──► None, if it resolves, or nothing of what could be undone has happened
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(i16)]
pub enum Closing {
    /// Nothing to undo.
    #[default]
    None = 0,
    /// Compensations run, one after the other.
    Compensating = 1,
    /// Every compensation has run.
    Compensated = 2,
    /// A compensation failed; the others are tried all the same.
    CompensationFailed = 3,
    /// If it does not resolve, something is undone.
    Undoable = 4,
}

stored_codes!(Closing {
    None: "none",
    Compensating: "compensating",
    Compensated: "compensated",
    CompensationFailed: "compensation_failed",
    Undoable: "none",
});

/// What led to a tree; carried on by the events it emits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// The same for everything that one start led to. A tree without a cause takes its own id.
    pub correlation: String,
    /// The event, or the invocation of a consumer, that started the tree.
    pub causation: Option<String>,
    /// The W3C trace context of the start.
    pub traceparent: Option<String>,
}

/// The row of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeRow {
    /// The tree.
    pub id: TreeId,
    /// The root's function.
    pub function: String,
    /// The root's version.
    pub version: u32,
    /// Its state.
    pub state: TreeState,
    /// How far what its invocations undo has come: failed if a compensation of one has failed, else the least far.
    pub closing: Closing,
    /// The worker that alone may commit progress, while something is runnable or a step is in flight.
    pub owner: Option<WorkerId>,
    /// Goes from n to n+1 with every commit of the tree.
    pub revision: u64,
    /// The last request that was made for it: moves when the tree is governed from outside.
    pub control: u32,
    /// The last request that its owner has carried out.
    pub applied: u32,
    /// Moves when something outside settles what the tree waits for.
    pub inbox: u32,
    /// The last completion number given.
    pub number: u32,
    /// When a tree without an owner is to be claimed; `None` if nothing in it will be due.
    pub ready_at: Option<Timestamp>,
    /// The function it waits for, if the last worker lacked that version.
    pub needs: Option<FunctionVersion>,
    /// Why it was set aside, if a worker that claimed it could not drive it.
    pub aside: Option<String>,
    /// What led to it.
    pub cause: Cause,
    /// When it was started.
    pub created_at: Timestamp,
    /// When its root settles at the latest, if it has a deadline.
    pub deadline: Option<Timestamp>,
    /// When its root settled.
    pub settled_at: Option<Timestamp>,
}

impl TreeRow {
    /// Whether its root has a deadline that has passed, and had not settled by then.
    #[must_use]
    pub fn is_late(&self, now: Timestamp) -> bool {
        !self.state.is_settled() && self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether nothing is left to do: it is settled, and no compensation in it is retried. Only what is not closed is
    /// claimed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.state.is_closed() && !matches!(self.closing, Closing::Compensating)
    }
}

/// The part of an invocation that changes; always written as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationState {
    /// The attempt it is in, counted from 1.
    pub attempt: u32,
    /// The state of its promise.
    pub promise: PromiseState,
    /// How far its compensation has come.
    pub closing: Closing,
    /// The completion number under which it settled for its parent; `None` until then, and for a root.
    pub number: Option<u32>,
    /// It waits, and has been offered every completion up to this number: only a later one makes it runnable. `None`
    /// while it runs, or has not begun.
    pub seen: Option<u32>,
    /// The result or the error, once the body has returned.
    pub outcome: Option<Bytes>,
    /// Why it is parked: JSON that names what was recorded and what was asked for.
    pub parked: Option<Bytes>,
}

impl InvocationState {
    /// Whether nothing is left to do: its promise is closed, and no compensation of it is retried.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.promise.is_closed() && !matches!(self.closing, Closing::Compensating)
    }

    /// An invocation that has not begun.
    #[must_use]
    pub const fn fresh() -> Self {
        Self {
            attempt: 1,
            promise: PromiseState::Pending,
            closing: Closing::None,
            number: None,
            seen: None,
            outcome: None,
            parked: None,
        }
    }
}

/// An invocation as it is inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Its place in the tree.
    pub path: Path,
    /// Its function.
    pub function: String,
    /// The version, fixed when it was created (V1).
    pub version: u32,
    /// Its input: a JSON object of the parameters.
    pub input: Bytes,
    /// What changes.
    pub state: InvocationState,
    /// The function that undoes it, if its caller gave one.
    pub undo: Option<FunctionVersion>,
    /// When it settles at the latest, if that is earlier than for its caller, or if it undoes something. Without one, its
    /// caller's deadline holds for it.
    pub deadline: Option<Timestamp>,
}

/// An invocation as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationRow {
    /// The invocation.
    pub invocation: Invocation,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its promise settled.
    pub settled_at: Option<Timestamp>,
}

impl InvocationRow {
    /// Whether it goes forward although its deadline has passed.
    #[must_use]
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.invocation.state.promise == PromiseState::Pending
            && self.invocation.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Something due at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// The invocation it belongs to.
    pub path: Path,
    /// The operation it belongs to; [`Entry::NO_POSITION`] for the backoff of the function itself.
    pub position: Position,
    /// What happens then.
    pub kind: TimerKind,
    /// When it is due.
    pub due_at: Timestamp,
}

/// What a timer does. Stored by code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum TimerKind {
    /// Ends a sleep.
    Sleep = 1,
    /// Begins the next attempt of a step.
    StepRetry = 2,
    /// Begins the next attempt of a function.
    FunctionRetry = 3,
    /// Is the deadline of an external promise: it is settled then (P4).
    Promise = 4,
}

stored_codes!(TimerKind {
    Sleep: "sleep",
    StepRetry: "step_retry",
    FunctionRetry: "function_retry",
    Promise: "promise",
});

/// An external promise, as its store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromiseRow {
    /// The invocation that made it.
    pub path: Path,
    /// Its position there.
    pub position: Position,
    /// Its name.
    pub name: String,
    /// The payload of the entry that made it.
    pub made: Bytes,
    /// When that was recorded.
    pub made_at: Timestamp,
    /// Whether its function goes forward and has not dropped the handle.
    pub is_awaited: bool,
    /// Until when it can be settled: the earlier one of its own deadline and of that of the invocation that made it.
    pub deadline: Option<Timestamp>,
    /// How it was settled.
    pub settled: Option<SettledPromise>,
}

impl PromiseRow {
    /// Its state. One that nobody awaits any longer is cancelled: nothing can settle it.
    #[must_use]
    pub fn state(&self) -> PromiseState {
        match &self.settled {
            Some(settled) => settled.state,
            None if self.is_awaited => PromiseState::Pending,
            None => PromiseState::Cancelled,
        }
    }

    /// Whether it is pending although its deadline has passed.
    #[must_use]
    pub fn is_late(&self, now: Timestamp) -> bool {
        self.state() == PromiseState::Pending && self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// How something outside settles a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Resolved or rejected.
    pub state: PromiseState,
    /// The payload of the entry that will record it.
    pub outcome: Bytes,
}

/// A promise that was settled from outside; the row of the table `promise`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledPromise {
    /// The invocation that made it.
    pub path: Path,
    /// Its position there.
    pub position: Position,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: PromiseState,
    /// The payload of the entry that records it.
    pub outcome: Bytes,
    /// When it was settled.
    pub settled_at: Timestamp,
    /// The number that it gave the tree's inbox counter.
    pub inbox: u32,
}

/// What a worker reads of a tree that it has claimed and does not have in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeImage {
    /// The tree's row, as claimed.
    pub row: TreeRow,
    /// Its invocations that are not closed, parents before children.
    pub open: Vec<OpenInvocation>,
    /// Those that are closed and whose compensation failed, parents before children: an operator may have it retried.
    pub failed: Vec<OpenInvocation>,
    /// Its timers.
    pub timers: Vec<Timer>,
    /// All its invocations, closed ones included, for the limit.
    pub nodes: usize,
    /// The requests that are still to be carried out, in order.
    pub requests: Vec<ControlRecord>,
    /// What has settled from outside and is not recorded yet, in the order of the inbox counter.
    pub settled: Vec<SettledPromise>,
}

impl TreeImage {
    /// Of a tree of which no more than the row is known.
    #[must_use]
    pub const fn of(row: TreeRow) -> Self {
        Self {
            row,
            open: Vec::new(),
            failed: Vec::new(),
            timers: Vec::new(),
            nodes: 0,
            requests: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// Adds an invocation that is not closed, or whose compensation failed.
    pub fn take_up(&mut self, invocation: OpenInvocation) {
        let of = if invocation.state.is_closed() { &mut self.failed } else { &mut self.open };
        of.push(invocation);
    }
}

/// An invocation without its input and its journal, as its owner takes it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenInvocation {
    /// Its place in the tree.
    pub path: Path,
    /// Its function.
    pub function: String,
    /// Its version.
    pub version: u32,
    /// What changes. It has an outcome only once that is decided.
    pub state: InvocationState,
    /// The highest completion number recorded for it, in its journal entries and its children; 0 without one.
    pub latest: u32,
    /// The `seq` of the next entry of its journal.
    pub next_seq: u32,
    /// Its own deadline.
    pub deadline: Option<Timestamp>,
}

/// All that the activation of one invocation reads, once (R11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationImage {
    /// The invocation.
    pub invocation: Invocation,
    /// Its journal, in order.
    pub entries: Vec<Entry>,
    /// Its direct children, by position.
    pub children: Vec<Invocation>,
    /// Its own timers.
    pub timers: Vec<Timer>,
}

/// A whole tree, for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeRecord {
    /// The tree's row.
    pub row: TreeRow,
    /// Every invocation, parents before children.
    pub invocations: Vec<InvocationRow>,
    /// Every journal entry with the path of its invocation and when it was recorded, in order.
    pub entries: Vec<(Path, Timestamp, Entry)>,
    /// Every timer.
    pub timers: Vec<Timer>,
    /// Every request that was made for it, in order.
    pub requests: Vec<ControlRecord>,
    /// Every promise of it that was settled from outside, in the order of the inbox counter.
    pub settled: Vec<SettledPromise>,
}

impl TreeRecord {
    /// Whether something in it is pending although its deadline has passed: an invocation, or an external promise.
    #[must_use]
    pub fn is_late(&self, now: Timestamp) -> bool {
        let is_settled = |timer: &Timer| {
            let mut settled = self.settled.iter();
            settled.any(|settled| settled.position == timer.position && settled.path == timer.path)
        };
        let mut timers = self.timers.iter().filter(|timer| timer.kind == TimerKind::Promise && timer.due_at <= now);
        timers.any(|timer| !is_settled(timer)) || self.invocations.iter().any(|row| row.is_late(now))
    }
}
