//! The journal: the recorded outcomes that a re-execution reads instead of doing the operations again.
//!
//! Entries are append only. An operation's position is its place in program order; a *completion* carries the next
//! number of its tree besides (SEMANTICS R7). A call has no entry of its own: the child's invocation row, whose path
//! is the parent's plus the position, is the record that it was made, and carries the number when it settles.

use bytes::Bytes;

use crate::Position;
use crate::code::stored_codes;

/// One row of the journal of one invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The entry's place in its invocation's journal, counted from 0, without gaps.
    pub seq: u32,
    /// What it records.
    pub kind: EntryKind,
    /// The operation it belongs to. [`Entry::NO_POSITION`] for entries about the invocation itself.
    pub position: Position,
    /// The completion number, for kinds that complete an operation.
    pub number: Option<u32>,
    /// The attempt that this entry is about, counted from 1; 0 if it is not about an attempt.
    pub attempt: u32,
    /// A step's name, a value's kind, an event's type, a started function, a promise's name; else empty.
    pub name: String,
    /// The payload in its stored form; the engine's module `payload` defines one for each kind.
    pub payload: Bytes,
}

impl Entry {
    /// The position of entries that are about the invocation and not about one operation.
    pub const NO_POSITION: Position = Position::MAX;
}

/// What an entry records. The code is stored; a code is never given a second meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum EntryKind {
    /// A step gave a result, which is the payload. A completion.
    StepResolved = 1,
    /// A step ended with an error: the payload is the rejection. A completion.
    StepRejected = 2,
    /// An attempt of a step failed and another follows: the error in words.
    StepRetried = 3,
    /// A sleep began: its length.
    SleepBegun = 4,
    /// A sleep is over. A completion.
    SleepEnded = 5,
    /// An event was emitted: its content. The outbox row committed with it.
    Emitted = 6,
    /// A value was drawn: now, random, uuid.
    Valued = 7,
    /// A handle was dropped while its body went on.
    Dropped = 8,
    /// A consumer started a root, or could not: the input and the outcome. A completion.
    Started = 9,
    /// An attempt of the function ended with an error and another follows: the error in words, and what the next
    /// attempt forgets.
    Retried = 10,
    /// Reserved: a transactional step.
    Transaction = 11,
    /// An external promise was made: the JSON Schema of its value.
    PromiseMade = 12,
    /// An external promise settled: its value, or why there is none. A completion.
    PromiseSettled = 13,
    /// A compensation was declared: the call that undoes what comes next.
    UndoDeclared = 14,
    /// An operator asked for undos that had failed to be made again. About the invocation, or about the position that is
    /// undone.
    UndoRetried = 15,
    /// Something was found that the function's author should know: what about, and in words.
    Found = 16,
    /// Reserved: a version marker.
    VersionMarked = 17,
    /// Reserved: a message was taken from the mailbox.
    MessageTaken = 18,
    /// Reserved: cancellation reached the invocation.
    Cancelled = 19,
}

stored_codes!(EntryKind {
    StepResolved: "step_resolved",
    StepRejected: "step_rejected",
    StepRetried: "step_retried",
    SleepBegun: "sleep_begun",
    SleepEnded: "sleep_ended",
    Emitted: "emitted",
    Valued: "valued",
    Dropped: "dropped",
    Started: "started",
    Retried: "retried",
    Transaction: "transaction",
    PromiseMade: "promise_made",
    PromiseSettled: "promise_settled",
    UndoDeclared: "undo_declared",
    UndoRetried: "undo_retried",
    Found: "found",
    VersionMarked: "version_marked",
    MessageTaken: "message_taken",
    Cancelled: "cancelled",
});
