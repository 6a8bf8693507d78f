//! Errors of stores, classified by what they ask for, so that no loop reads a database driver's codes.

use std::fmt;

/// An error of a store.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What an error of a store asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The database cannot be reached, or the connection was lost; whether the statement was applied is unknown.
    Connection,
    /// Not applied; the same again may succeed: another transaction was in the way, or the store is in trouble that
    /// an operator has to mend (a table that is gone, a permission that is lacking, a full disk). Never the fault of a tree.
    Transient,
    /// Not applied, and the same again will fail: the data itself is refused, or cannot be read. At a start also what
    /// cannot be right: a URL, a schema of another build.
    Permanent,
    /// A row holds what this build cannot read. Only what asked for that row fails; a newer build, or an operator who
    /// mends the row, may read it.
    Unreadable,
    /// This worker was declared dead; it must stop.
    Fenced,
    /// Not applied: the store is no longer as the call expected it.
    Refused,
}

impl StoreError {
    /// An error of `kind`.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the error asks for.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Connection | StoreErrorKind::Transient)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
