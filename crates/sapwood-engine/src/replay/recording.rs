//! From the rows of one invocation to the record its script reads.

use std::collections::HashMap;

use bytes::Bytes;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::tree::{Invocation, InvocationImage};
use sapwood_core::{Path, Position};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Completion, OpKind, Recorded, Recording};

/// The payload of [`EntryKind::Retried`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RetriedPayload {
    /// What the attempt ended with, in words.
    pub(crate) message: String,
    /// Failed steps that the next attempt runs again.
    pub(crate) forgotten: Vec<Position>,
}

/// The payload of [`EntryKind::Started`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartedPayload {
    pub(crate) input: Box<RawValue>,
    pub(crate) outcome: Box<RawValue>,
}

/// What an activation begins with, besides its input.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replayed {
    /// The record for the script.
    pub(crate) recording: Recording,
    /// Tries that steps without a result have made so far.
    pub(crate) step_attempts: HashMap<Position, u32>,
    /// The `seq` of the next entry.
    pub(crate) next_seq: u32,
    /// Calls made so far.
    pub(crate) calls: usize,
}

impl Replayed {
    /// Reads the rows of one invocation.
    ///
    /// # Errors
    /// The position and the reason, where an entry is none that this build can read.
    pub(crate) fn read(image: &InvocationImage) -> Result<Self, Unreadable> {
        let mut replayed = Self { calls: image.children.len(), ..Self::default() };
        for entry in &image.entries {
            replayed.next_seq = entry.seq + 1;
            replayed.read_entry(entry)?;
        }
        for child in &image.children {
            if let Some(position) = child.path.position() {
                replayed.recording.operations.insert(position, called(child));
            }
        }
        Ok(replayed)
    }

    fn read_entry(&mut self, entry: &Entry) -> Result<(), Unreadable> {
        let position = entry.position;
        let number = || entry.number.ok_or_else(|| Unreadable::new(position, "a completion without a number"));
        match entry.kind {
            EntryKind::StepResolved => {
                let completion = Some((number()?, Completion::StepOk(entry.payload.clone())));
                self.insert(entry, OpKind::Step, None, None, completion);
            }
            EntryKind::StepRejected => {
                let completion = Some((number()?, Completion::StepErr(entry.payload.clone())));
                self.insert(entry, OpKind::Step, None, None, completion);
            }
            EntryKind::StepRetried => {
                self.step_attempts.insert(position, entry.attempt);
            }
            EntryKind::SleepBegun => self.insert(entry, OpKind::Sleep, Some(entry.payload.clone()), None, None),
            EntryKind::SleepEnded => {
                let number = number()?;
                let sleep = self.recording.operations.get_mut(&position);
                let sleep = sleep.ok_or_else(|| Unreadable::new(position, "the end of a sleep that never began"))?;
                sleep.completion = Some((number, Completion::SleepEnded));
            }
            EntryKind::Emitted => self.insert(entry, OpKind::Emit, Some(entry.payload.clone()), None, None),
            EntryKind::Valued => self.insert(entry, OpKind::Value, None, Some(entry.payload.clone()), None),
            EntryKind::Dropped => {
                self.recording.dropped.insert(position);
            }
            EntryKind::Started => {
                let payload: StartedPayload =
                    serde_json::from_slice(&entry.payload).map_err(|error| Unreadable::new(position, error))?;
                let completion = Completion::Started(bytes_of(&payload.outcome));
                let input = Some(bytes_of(&payload.input));
                self.insert(entry, OpKind::Start, input, None, Some((number()?, completion)));
            }
            EntryKind::Retried => {
                let payload: RetriedPayload =
                    serde_json::from_slice(&entry.payload).map_err(|error| Unreadable::new(position, error))?;
                for forgotten in payload.forgotten {
                    self.recording.operations.remove(&forgotten);
                    self.step_attempts.remove(&forgotten);
                }
            }
            EntryKind::Transaction
            | EntryKind::PromiseMade
            | EntryKind::PromiseSettled
            | EntryKind::UndoDeclared
            | EntryKind::UndoDone
            | EntryKind::DeadlineSet
            | EntryKind::VersionMarked
            | EntryKind::MessageTaken
            | EntryKind::Cancelled => {
                return Err(Unreadable::new(position, format!("an entry of kind {}", entry.kind.name())));
            }
        }
        Ok(())
    }

    fn insert(
        &mut self,
        entry: &Entry,
        kind: OpKind,
        input: Option<Bytes>,
        value: Option<Bytes>,
        completion: Option<(u32, Completion)>,
    ) {
        let recorded = Recorded { kind, name: entry.name.clone(), input, value, completion };
        self.recording.operations.insert(entry.position, recorded);
    }
}

/// A call as its child's row records it.
fn called(child: &Invocation) -> Recorded {
    let completion = child.state.number.filter(|_| child.state.phase.is_settled()).map(|number| {
        let outcome = child.state.outcome.clone().unwrap_or_default();
        let (version, phase, attempts) = (child.version, child.state.phase, child.state.attempt);
        (number, Completion::Call { version, phase, attempts, outcome })
    });
    Recorded {
        kind: OpKind::Call,
        name: child.function.clone(),
        input: Some(child.input.clone()),
        value: None,
        completion,
    }
}

fn bytes_of(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}

/// An entry that this build cannot read: the invocation parks, a newer build may go on with it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the journal entry of position {position} is not readable: {reason}")]
pub(crate) struct Unreadable {
    pub(crate) position: Position,
    pub(crate) reason: String,
}

impl Unreadable {
    fn new(position: Position, reason: impl ToString) -> Self {
        Self { position, reason: reason.to_string() }
    }
}

/// The name by which operators, errors and `needs` know a version of a function.
pub(crate) fn versioned(name: &str, version: u32) -> String {
    format!("{name}@{version}")
}

/// The path of an invocation within its tree, as causation of what it emits and starts.
pub(crate) fn causation_of(tree: sapwood_core::TreeId, path: &Path) -> String {
    format!("{tree}:{path}")
}
