//! The journal: what a re-execution reads instead of doing it again.
//!
//! Entries are append only. An operation's position is its place in program order; a *completion* carries the next
//! number of its tree besides (SEMANTICS R7). A call has no entry of its own: the child's invocation row, whose path
//! is the parent's plus the position, is the record that it was made, and carries the number when it settles.

use bytes::Bytes;

use crate::Position;

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
    /// The try this entry tells of, counted from 1; 0 where there is none.
    pub attempt: u32,
    /// A step's name, a value's kind, an event's type, a started function; empty where there is none.
    pub name: String,
    /// What the kind says; JSON throughout.
    pub payload: Bytes,
}

impl Entry {
    /// The position of entries that tell of the invocation and not of one operation.
    pub const NO_POSITION: Position = Position::MAX;
}

/// What an entry records. The code is stored; a code is never given a second meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum EntryKind {
    /// A step gave a result: the payload. A completion.
    StepResolved = 1,
    /// A step gave up: the error. A completion.
    StepRejected = 2,
    /// A try of a step failed and another follows: the error, and when.
    StepRetried = 3,
    /// A sleep was begun: its length and its end.
    SleepBegun = 4,
    /// A sleep is over. A completion.
    SleepEnded = 5,
    /// An event was emitted: its content. The outbox row committed with it.
    Emitted = 6,
    /// A value was drawn: now, random, uuid.
    Valued = 7,
    /// A handle was dropped while its body went on.
    Dropped = 8,
    /// A root was started by a consumer: its tree. A completion.
    Started = 9,
    /// An attempt of the function ended with an error and another follows: the error, and what it forgets.
    Retried = 10,
    /// Reserved: a transactional step.
    Transaction = 11,
    /// Reserved: an external promise was made.
    PromiseMade = 12,
    /// Reserved: an external promise settled.
    PromiseSettled = 13,
    /// Reserved: a compensation was declared.
    UndoDeclared = 14,
    /// Reserved: a compensation ran.
    UndoDone = 15,
    /// Reserved: a deadline was set.
    DeadlineSet = 16,
    /// Reserved: a version marker.
    VersionMarked = 17,
    /// Reserved: a message was taken from the mailbox.
    MessageTaken = 18,
    /// Reserved: cancellation reached the invocation.
    Cancelled = 19,
}

impl EntryKind {
    /// The stored code.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The kind of a stored code.
    #[must_use]
    pub const fn from_code(code: i16) -> Option<Self> {
        Some(match code {
            1 => Self::StepResolved,
            2 => Self::StepRejected,
            3 => Self::StepRetried,
            4 => Self::SleepBegun,
            5 => Self::SleepEnded,
            6 => Self::Emitted,
            7 => Self::Valued,
            8 => Self::Dropped,
            9 => Self::Started,
            10 => Self::Retried,
            11 => Self::Transaction,
            12 => Self::PromiseMade,
            13 => Self::PromiseSettled,
            14 => Self::UndoDeclared,
            15 => Self::UndoDone,
            16 => Self::DeadlineSet,
            17 => Self::VersionMarked,
            18 => Self::MessageTaken,
            19 => Self::Cancelled,
            _ => return None,
        })
    }

    /// The kind's name on the wire, in errors and in the timeline.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StepResolved => "step_resolved",
            Self::StepRejected => "step_rejected",
            Self::StepRetried => "step_retried",
            Self::SleepBegun => "sleep_begun",
            Self::SleepEnded => "sleep_ended",
            Self::Emitted => "emitted",
            Self::Valued => "valued",
            Self::Dropped => "dropped",
            Self::Started => "started",
            Self::Retried => "retried",
            Self::Transaction => "transaction",
            Self::PromiseMade => "promise_made",
            Self::PromiseSettled => "promise_settled",
            Self::UndoDeclared => "undo_declared",
            Self::UndoDone => "undo_done",
            Self::DeadlineSet => "deadline_set",
            Self::VersionMarked => "version_marked",
            Self::MessageTaken => "message_taken",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_names_one_kind() {
        let kinds: Vec<_> = (0..100).filter_map(EntryKind::from_code).collect();
        assert_eq!(kinds.len(), 19);
        assert!(kinds.iter().all(|kind| EntryKind::from_code(kind.code()) == Some(*kind)));
    }
}
