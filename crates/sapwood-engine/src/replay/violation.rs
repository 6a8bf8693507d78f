//! What a replay found to differ from its record; never a failure, it consumes no attempt (R9).

use serde::{Deserialize, Serialize};

/// A difference between record and code, named on both sides. Stored as JSON with the parked invocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violation {
    /// The position in program order.
    pub(crate) position: u32,
    /// What the journal has there, in words.
    pub(crate) recorded: String,
    /// What the code asks for now, in words.
    pub(crate) asked: String,
    /// Where in the source, as `file:line:column`; empty where no line asks.
    pub(crate) location: String,
}

impl Violation {
    /// A violation that no recorded operation takes part in.
    pub(crate) fn misuse(position: u32, asked: impl Into<String>, location: impl Into<String>) -> Self {
        Self { position, recorded: "nothing".to_owned(), asked: asked.into(), location: location.into() }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at position {} the journal has {}, the code asks for {}", self.position, self.recorded, self.asked)?;
        if self.location.is_empty() { Ok(()) } else { write!(f, " ({})", self.location) }
    }
}
