//! What is asked of a tree from outside: requests for one of its invocations and all below it.

use jiff::Timestamp;

use crate::Path;
use crate::code::stored_codes;

/// What an operator, or a program, asks of an invocation and all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRequest {
    /// The invocation; the root for the whole tree.
    pub path: Path,
    /// What is asked for.
    pub verb: ControlVerb,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// What a request asks for. Stored by code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ControlVerb {
    /// To go no further, undo what was done, and close.
    Cancel = 1,
    /// To go no further, and close as it is.
    Kill = 2,
    /// What is parked runs again, from its record.
    Resume = 3,
    /// What is parked runs again with a fresh budget of attempts, without its last failures; what failed to be undone is
    /// undone again.
    Retry = 4,
}

stored_codes!(ControlVerb { Cancel: "cancel", Kill: "kill", Resume: "resume", Retry: "retry" });

/// A request as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlRecord {
    /// The number that it gave the tree's control counter.
    pub control: u32,
    /// The request.
    pub request: ControlRequest,
    /// When it was recorded.
    pub requested_at: Timestamp,
}
