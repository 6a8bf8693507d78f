//! What an invocation that does not resolve has to undo, and in which order (K1, K2). Pure.
//!
//! The record has it all: the calls with an undo, as rows of children; the compensations, as entries of the journal; and
//! the undos that were begun, as rows of children at the places of what they undo. So each undo is made once, and after a
//! crash the next one is the first that has no row.

use std::collections::VecDeque;

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::tree::{Invocation, InvocationImage, PromiseState};
use sapwood_core::{FunctionVersion, Position};

use crate::payload::{PayloadError, Retried, UndoDeclared, decode};
use crate::registry::Registry;

/// What an invocation has still to undo, in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Undos {
    pub(super) pending: VecDeque<Undo>,
    /// Whether anything was undone, or is to be.
    pub(super) has_any: bool,
    /// Until when all of it has to be undone, once that is known.
    pub(super) until: Option<Timestamp>,
}

/// One undo.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Undo {
    /// The position of what it undoes.
    pub(super) position: Position,
    pub(super) function: FunctionVersion,
    input: UndoInput,
}

#[derive(Debug, Clone, PartialEq)]
enum UndoInput {
    /// As the function declared it.
    Declared(Bytes),
    /// Made of the result of the call that it undoes.
    OfResult(Bytes),
}

impl Undos {
    /// What an invocation has still to undo: in the reverse of program order, calls that resolved and compensations that were
    /// declared, without those that were begun before.
    ///
    /// # Errors
    /// In words, and with the position, if this build cannot read one of them.
    pub(crate) fn read(image: &InvocationImage) -> Result<Self, (Position, String)> {
        let mut all: Vec<Undo> = image.children.iter().filter_map(of_call).collect();
        let mut declared: Vec<Undo> = Vec::new();
        for entry in &image.entries {
            match entry.kind {
                EntryKind::UndoDeclared => declared.push(of_entry(entry)?),
                EntryKind::Retried => {
                    let Retried { forgotten, .. } =
                        decode(&entry.payload).map_err(|error| (entry.position, error.to_string()))?;
                    declared.retain(|undo| !forgotten.contains(&undo.position));
                }
                _ => {}
            }
        }
        all.append(&mut declared);
        all.sort_by_key(|undo| std::cmp::Reverse(undo.position));
        let has_any = !all.is_empty();
        let undoing = || image.children.iter().filter(|child| child.path.undoes().is_some());
        let until = undoing().find_map(|child| child.deadline);
        let begun: Vec<Position> = undoing().filter_map(|child| child.path.undoes()).collect();
        all.retain(|undo| !begun.contains(&undo.position));
        Ok(Self { pending: all.into(), has_any, until })
    }
}

fn of_call(child: &Invocation) -> Option<Undo> {
    let function = child.undo.clone().filter(|_| child.state.promise == PromiseState::Resolved)?;
    let input = UndoInput::OfResult(child.state.outcome.clone().unwrap_or_default());
    Some(Undo { position: child.path.position()?, function, input })
}

fn of_entry(entry: &Entry) -> Result<Undo, (Position, String)> {
    let unreadable = |error: String| (entry.position, error);
    let UndoDeclared { function, input } = decode(&entry.payload).map_err(|error| unreadable(error.to_string()))?;
    let function = function.parse().map_err(|_| unreadable(format!("`{function}` is no version of a function")))?;
    let input = UndoInput::Declared(Bytes::copy_from_slice(input.get().as_bytes()));
    Ok(Undo { position: entry.position, function, input })
}

impl Undo {
    /// The input of its function; `None` if this worker lacks its version.
    pub(super) fn input(&self, registry: &Registry) -> Option<Result<Bytes, PayloadError>> {
        let definition = registry.find(self.function.name(), self.function.version())?;
        Some(match &self.input {
            UndoInput::Declared(input) => Ok(input.clone()),
            UndoInput::OfResult(result) => definition.undo_input(result),
        })
    }
}

#[cfg(test)]
mod tests {
    use sapwood_core::Path;
    use sapwood_core::tree::InvocationState;

    use super::*;

    fn child(path: Path, promise: PromiseState, undo: Option<&str>) -> Invocation {
        let state = InvocationState { promise, outcome: Some("7".into()), ..InvocationState::fresh() };
        let undo = undo.map(|undo| undo.parse().expect("a version"));
        Invocation { path, function: "f".to_owned(), version: 1, input: "{}".into(), state, undo, deadline: None }
    }

    fn entry(seq: u32, kind: EntryKind, position: Position, payload: &'static str) -> Entry {
        Entry { seq, kind, position, number: None, attempt: 0, name: "n".to_owned(), payload: payload.into() }
    }

    /// The positions of what is still to be undone, in order.
    fn read(children: Vec<Invocation>, entries: Vec<Entry>) -> (Vec<Position>, bool) {
        let invocation = child(Path::root(), PromiseState::ReturnedErr, None);
        let image = InvocationImage { invocation, entries, children, timers: Vec::new() };
        let undos = Undos::read(&image).expect("all of it is readable");
        (undos.pending.iter().map(|undo| undo.position).collect(), undos.has_any)
    }

    /// K1, K2: calls that resolved and have an undo, and compensations that were declared, the last first.
    #[test]
    fn what_has_happened_is_undone_in_the_reverse_of_program_order() {
        use PromiseState::{Cancelled, Pending, Rejected, Resolved, TimedOut};
        let at = |position| Path::root().child(position);
        let declared = || entry(0, EntryKind::UndoDeclared, 4, r#"{"function":"u@1","input":{}}"#);
        let mut children = vec![
            child(at(0), Resolved, Some("u@1")),
            child(at(1), Resolved, None),
            child(at(9), Resolved, Some("u@2")),
        ];
        for (position, promise) in [(2, Rejected), (3, Cancelled), (5, TimedOut), (6, Pending)] {
            children.push(child(at(position), promise, Some("u@1")));
        }
        assert_eq!(read(children.clone(), vec![declared()]), (vec![9, 4, 0], true));
        // K2: the ones that were begun are not begun again, however they ended.
        for promise in [Pending, Resolved, Rejected, Cancelled] {
            children.push(child(Path::root().undo(9), promise, None));
            children.push(child(Path::root().undo(4), promise, None));
            assert_eq!(read(children.clone(), vec![declared()]), (vec![0], true));
        }
        assert_eq!(read(Vec::new(), Vec::new()), (Vec::new(), false));
        assert_eq!(read(vec![child(at(2), Rejected, Some("u@1"))], Vec::new()), (Vec::new(), false));
    }

    /// F5: what a retry forgot was never declared.
    #[test]
    fn a_compensation_that_a_retry_forgot_is_none() {
        let declared = entry(0, EntryKind::UndoDeclared, 4, r#"{"function":"u@1","input":{}}"#);
        let retried = entry(1, EntryKind::Retried, Entry::NO_POSITION, r#"{"message":"m","forgotten":[4]}"#);
        assert_eq!(read(Vec::new(), vec![declared, retried]), (Vec::new(), false));
    }

    /// R9: what this build cannot read is named, with its position.
    #[test]
    fn a_compensation_that_cannot_be_read_is_named() {
        for payload in ["{}", r#"{"function":"u","input":{}}"#, "\u{1}"] {
            let invocation = child(Path::root(), PromiseState::ReturnedErr, None);
            let entries = vec![entry(0, EntryKind::UndoDeclared, 4, payload)];
            let image = InvocationImage { invocation, entries, children: Vec::new(), timers: Vec::new() };
            assert_eq!(Undos::read(&image).expect_err("unreadable").0, 4);
        }
    }
}
