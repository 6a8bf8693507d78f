//! The operations of a body: their kinds, how a body asks for one, and how one completes.

use std::panic::Location;

use bytes::Bytes;
use sapwood_core::tree::PromiseState;

use crate::payload::StartOutcome;

/// The kinds of operations that take a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpKind {
    Step,
    Call,
    Sleep,
    Emit,
    Value,
    Start,
    Compensate,
    Promise,
}

impl OpKind {
    /// The kind as messages name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Call => "call",
            Self::Sleep => "sleep",
            Self::Emit => "emit",
            Self::Value => "value",
            Self::Start => "start",
            Self::Compensate => "compensate",
            Self::Promise => "promise",
        }
    }

    /// Whether the record has the operation as soon as the poll that wrote it has ended. Steps and starts are recorded
    /// only when they complete.
    pub(super) const fn is_recorded_when_written(self) -> bool {
        match self {
            Self::Call | Self::Sleep | Self::Emit | Self::Value | Self::Compensate | Self::Promise => true,
            Self::Step | Self::Start => false,
        }
    }

    /// How many entries of the journal it takes, if it succeeds at its first attempt. A call is its child's row.
    pub(crate) const fn entries(self) -> usize {
        match self {
            Self::Call => 0,
            Self::Step | Self::Emit | Self::Value | Self::Start | Self::Compensate => 1,
            Self::Sleep | Self::Promise => 2,
        }
    }

    /// How many of them its end takes: those that one takes never whose handle is dropped before.
    pub(super) const fn entries_of_end(self) -> usize {
        match self {
            Self::Call | Self::Emit | Self::Value | Self::Compensate => 0,
            Self::Step | Self::Start | Self::Sleep | Self::Promise => 1,
        }
    }

    /// Whether it has a handle to await.
    pub(super) const fn has_handle(self) -> bool {
        match self {
            Self::Step | Self::Call | Self::Sleep | Self::Start | Self::Promise => true,
            Self::Emit | Self::Value | Self::Compensate => false,
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Completion {
    /// A step's result.
    StepOk(Bytes),
    /// A step's last error.
    StepErr(Bytes),
    /// A child's promise settled.
    Call { version: u32, promise: PromiseState, attempts: u32, outcome: Bytes },
    /// A sleep is over.
    SleepEnded,
    /// A root was started, or could not be.
    Started(StartOutcome),
    /// An external promise settled.
    Promise(Bytes),
}

/// An operation as the body asks for it.
pub(crate) struct Asked<'a> {
    pub(crate) kind: OpKind,
    pub(crate) name: &'a str,
    pub(crate) input: Option<&'a [u8]>,
    pub(crate) location: &'static Location<'static>,
}

impl Completion {
    /// Its size in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::StepOk(value) | Self::StepErr(value) | Self::Promise(value) => value.len(),
            Self::Call { outcome, .. } => outcome.len(),
            Self::SleepEnded | Self::Started(_) => 0,
        }
    }
}

impl Asked<'_> {
    /// The operation by kind and name, such as `call reserve`.
    pub(crate) fn title(&self) -> String {
        words(self.kind, self.name, None)
    }

    pub(super) fn words(&self) -> String {
        words(self.kind, self.name, self.input)
    }
}

/// An operation in words, such as `call reserve {"sku":1}`, with a long input cut.
pub(super) fn words(kind: OpKind, name: &str, input: Option<&[u8]>) -> String {
    // Enough to recognize an input in a message of one or two lines; the tree's view has all of it.
    const INPUT_CHARS: usize = 200;
    let mut words = kind.name().to_owned();
    if !name.is_empty() {
        words.push(' ');
        words.push_str(name);
    }
    if let Some(input) = input {
        words.push(' ');
        words.extend(String::from_utf8_lossy(input).chars().take(INPUT_CHARS));
    }
    words
}
