//! Reads the rows of one invocation into the record that its script follows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use sapwood_core::Position;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::tree::{Invocation, InvocationImage, PromiseState};
use serde_json::value::RawValue;

use super::operation::{Completion, OpKind};
use crate::findings::FindingCode;
use crate::payload::{self, decode};

/// What a journal has of one invocation, without what retries forgot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) operations: BTreeMap<Position, RecordedOperation>,
    /// The positions of handles that the body dropped.
    pub(crate) dropped: BTreeSet<Position>,
}

/// What a journal has of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedOperation {
    pub(crate) kind: OpKind,
    /// A step's or promise's name, a call's or start's function, an event's type, a value's kind; empty for a sleep.
    pub(crate) name: String,
    /// The recorded input, if the kind has one.
    pub(crate) input: Option<Bytes>,
    /// The value, for kinds without a handle.
    pub(crate) value: Option<Bytes>,
    /// Its completion, with its number.
    pub(crate) completion: Option<(u32, Completion)>,
}

impl RecordedOperation {
    /// The entries that the journal has of it.
    fn entries(&self) -> usize {
        match self.kind {
            OpKind::Sleep | OpKind::Promise => 1 + usize::from(self.completion.is_some()),
            kind => kind.entries(),
        }
    }
}

/// What an activation begins with, besides its input.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replay {
    /// The record for the script.
    pub(crate) record: Record,
    /// The attempts that steps without a result have made so far.
    pub(crate) step_attempts: HashMap<Position, u32>,
    /// Attempts of the function that its policy no longer counts, because an operator retried it since.
    pub(crate) spent_attempts: u32,
    /// The `seq` of the next entry.
    pub(crate) next_seq: u32,
    /// Calls made so far, for the limit.
    pub(crate) calls: usize,
    /// Entries that belong to no operation of the record, for the limit: of attempts that were followed by another, of
    /// drops, of what retries forgot.
    pub(crate) spent_entries: usize,
    /// What was found, and about what.
    pub(crate) found: HashSet<(FindingCode, String)>,
}

impl Replay {
    /// Reads the rows of one invocation.
    ///
    /// # Errors
    /// [`UnreadableEntry`] if this build cannot read one of them.
    pub(crate) fn read(image: &InvocationImage) -> Result<Self, UnreadableEntry> {
        let calls = || image.children.iter().filter(|child| child.path.undoes().is_none());
        let mut replay = Self { calls: calls().count(), ..Self::default() };
        for entry in &image.entries {
            replay.next_seq = entry.seq + 1;
            replay.read_entry(entry)?;
        }
        for child in calls() {
            if let Some(position) = child.path.position() {
                replay.record.operations.insert(position, called(position, child)?);
            }
        }
        let of_operations: usize = replay.record.operations.values().map(RecordedOperation::entries).sum();
        // What was found makes no function fail.
        let counted = image.entries.iter().filter(|entry| entry.kind != EntryKind::Found).count();
        replay.spent_entries = counted.saturating_sub(of_operations);
        Ok(replay)
    }

    fn read_entry(&mut self, entry: &Entry) -> Result<(), UnreadableEntry> {
        let position = entry.position;
        let number = || entry.number.ok_or_else(|| UnreadableEntry::new(position, "a completion without a number"));
        let readable = |error| UnreadableEntry::new(position, error);
        let payload = || payload::plain(&entry.payload).map(|_| entry.payload.clone()).map_err(readable);
        match entry.kind {
            EntryKind::StepResolved => {
                let completion = Some((number()?, Completion::StepOk(payload()?)));
                self.insert(entry, OpKind::Step, None, None, completion);
            }
            EntryKind::StepRejected => {
                let completion = Some((number()?, Completion::StepErr(payload()?)));
                self.insert(entry, OpKind::Step, None, None, completion);
            }
            EntryKind::StepRetried => {
                self.step_attempts.insert(position, entry.attempt);
            }
            EntryKind::SleepBegun => self.insert(entry, OpKind::Sleep, Some(payload()?), None, None),
            EntryKind::SleepEnded => {
                let number = number()?;
                let why = "the end of a sleep that never began";
                self.ended(position, why)?.completion = Some((number, Completion::SleepEnded));
            }
            EntryKind::Emitted => self.insert(entry, OpKind::Emit, Some(payload()?), None, None),
            EntryKind::Valued => self.insert(entry, OpKind::Value, None, Some(payload()?), None),
            EntryKind::Dropped => {
                self.record.dropped.insert(position);
            }
            EntryKind::Started => {
                let started: payload::Started = decode(&entry.payload).map_err(readable)?;
                let completion = Completion::Started(started.outcome);
                self.insert(entry, OpKind::Start, Some(bytes_of(&started.input)), None, Some((number()?, completion)));
            }
            EntryKind::Retried => {
                let retried: payload::Retried = decode(&entry.payload).map_err(readable)?;
                if retried.afresh {
                    self.spent_attempts = entry.attempt;
                }
                for forgotten in retried.forgotten {
                    self.record.operations.remove(&forgotten);
                    self.step_attempts.remove(&forgotten);
                }
            }
            // The schema is for those who settle it; the type of today may have another one.
            EntryKind::PromiseMade => self.insert(entry, OpKind::Promise, None, None, None),
            EntryKind::PromiseSettled => {
                let completion = Some((number()?, Completion::Promise(payload()?)));
                self.ended(position, "the end of a promise that was never made")?.completion = completion;
            }
            EntryKind::UndoDeclared => self.insert(entry, OpKind::Compensate, Some(payload()?), None, None),
            EntryKind::Found => {
                let found: payload::Found = decode(&entry.payload).map_err(readable)?;
                self.found.extend(FindingCode::of_name(&entry.name).map(|code| (code, found.about)));
            }
            // What is undone again concerns no body.
            EntryKind::UndoRetried => {}
            EntryKind::Transaction | EntryKind::VersionMarked | EntryKind::MessageTaken | EntryKind::Cancelled => {
                return Err(UnreadableEntry::new(position, format!("an entry of kind {}", entry.kind.name())));
            }
        }
        Ok(())
    }

    /// The operation that an entry of its own ends; `why` is wrong if it was never begun.
    fn ended(&mut self, position: Position, why: &str) -> Result<&mut RecordedOperation, UnreadableEntry> {
        self.record.operations.get_mut(&position).ok_or_else(|| UnreadableEntry::new(position, why))
    }

    fn insert(
        &mut self,
        entry: &Entry,
        kind: OpKind,
        input: Option<Bytes>,
        value: Option<Bytes>,
        completion: Option<(u32, Completion)>,
    ) {
        let recorded = RecordedOperation { kind, name: entry.name.clone(), input, value, completion };
        self.record.operations.insert(entry.position, recorded);
    }
}

/// A call as its child's row records it.
fn called(position: Position, child: &Invocation) -> Result<RecordedOperation, UnreadableEntry> {
    let readable = |stored: &Bytes| match payload::plain(stored) {
        Ok(_) => Ok(stored.clone()),
        Err(error) => Err(UnreadableEntry::new(position, error)),
    };
    let completion = match child.state.number.filter(|_| child.state.promise.is_settled()) {
        Some(number) => {
            let outcome = child.state.outcome.as_ref().map(readable).transpose()?.unwrap_or_default();
            let (version, attempts) = (child.version, child.state.attempt);
            // What is still to be closed is nothing to its caller.
            let promise = match child.state.promise {
                PromiseState::TimingOut => PromiseState::TimedOut,
                promise => promise,
            };
            Some((number, Completion::Call { version, promise, attempts, outcome }))
        }
        None => None,
    };
    let input = Some(readable(&child.input)?);
    Ok(RecordedOperation { kind: OpKind::Call, name: child.function.clone(), input, value: None, completion })
}

fn bytes_of(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

/// An entry that this build cannot read. The invocation is parked; a newer build may go on with it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the journal entry of position {position} is not readable: {reason}")]
pub(crate) struct UnreadableEntry {
    pub(crate) position: Position,
    pub(crate) reason: String,
}

impl UnreadableEntry {
    fn new(position: Position, reason: impl ToString) -> Self {
        Self { position, reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use sapwood_core::Path;
    use sapwood_core::tree::InvocationState;

    use super::*;

    fn entry(seq: u32, kind: EntryKind, position: Position, number: Option<u32>, payload: &'static [u8]) -> Entry {
        let payload = Bytes::from_static(payload);
        Entry { seq, kind, position, number, attempt: 1, name: String::new(), payload }
    }

    fn image(entries: Vec<Entry>) -> InvocationImage {
        let invocation = Invocation {
            path: Path::root(),
            function: "f".to_owned(),
            version: 1,
            input: Bytes::from_static(b"{}"),
            state: InvocationState::fresh(),
            undo: None,
            deadline: None,
        };
        InvocationImage { invocation, entries, children: Vec::new(), timers: Vec::new() }
    }

    /// F5: a retry leaves out what it forgets; the position can have a second result.
    #[test]
    fn a_retry_forgets_the_failed_steps_that_it_names() {
        let replay = Replay::read(&image(vec![
            entry(0, EntryKind::StepResolved, 0, Some(1), b"1"),
            entry(1, EntryKind::StepRejected, 1, Some(2), b"{}"),
            entry(2, EntryKind::Retried, Entry::NO_POSITION, None, br#"{"message":"m","forgotten":[1]}"#),
            entry(3, EntryKind::StepRetried, 2, None, br#"{"message":"m"}"#),
        ]));
        let replay = replay.expect("all of it is readable");
        assert_eq!(replay.record.operations.keys().copied().collect::<Vec<_>>(), [0]);
        assert_eq!(replay.step_attempts, HashMap::from([(2, 1)]));
        assert_eq!((replay.next_seq, replay.spent_attempts), (4, 0));
    }

    /// F8: an operator's retry gives a fresh budget of attempts.
    #[test]
    fn an_operator_s_retry_begins_a_budget() {
        let retried = |seq, attempt, afresh: bool| {
            let payload: &'static [u8] = if afresh {
                br#"{"message":"m","forgotten":[],"afresh":true}"#
            } else {
                br#"{"message":"m","forgotten":[]}"#
            };
            Entry { attempt, ..entry(seq, EntryKind::Retried, Entry::NO_POSITION, None, payload) }
        };
        let spent = |entries| Replay::read(&image(entries)).expect("readable").spent_attempts;
        assert_eq!(spent(vec![retried(0, 1, false), retried(1, 2, false)]), 0);
        assert_eq!(spent(vec![retried(0, 1, false), retried(1, 2, true), retried(2, 3, false)]), 2);
        assert_eq!(spent(vec![retried(0, 2, true), retried(1, 4, true)]), 4);
    }

    /// R9: what this build cannot read is named, with its position, and nothing is guessed.
    #[test]
    fn an_entry_that_cannot_be_read_is_named() {
        let cases: [(Entry, &str); 6] = [
            (entry(0, EntryKind::StepResolved, 3, None, b"1"), "without a number"),
            (entry(0, EntryKind::SleepEnded, 3, Some(1), b""), "never began"),
            (entry(0, EntryKind::StepResolved, 3, Some(1), b"\x01\xff"), "codec 0x01"),
            (entry(0, EntryKind::Started, 3, Some(1), b"{}"), "missing field"),
            (entry(0, EntryKind::Retried, 3, None, b"\x1f"), "codec 0x1f"),
            (entry(0, EntryKind::Cancelled, 3, None, b""), "kind cancelled"),
        ];
        for (entry, expected) in cases {
            let error = Replay::read(&image(vec![entry])).expect_err(expected);
            assert_eq!(error.position, 3);
            assert!(error.reason.contains(expected), "{error}");
        }
    }

    /// R6: an input or an outcome of a child that another codec wrote is named as well.
    #[test]
    fn a_child_that_cannot_be_read_is_named() {
        let mut image = image(Vec::new());
        let mut child = Invocation { path: Path::root().child(5), ..image.invocation.clone() };
        child.input = Bytes::from_static(b"\x02");
        image.children = vec![child];
        let error = Replay::read(&image).expect_err("its input is not plain JSON");
        assert_eq!(error.position, 5);
    }
}
