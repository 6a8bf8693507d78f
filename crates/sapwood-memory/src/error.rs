//! The errors of a store that is never away and has no trouble of its own.

use sapwood_core::WorkerId;
use sapwood_core::store::{StoreError, StoreErrorKind};

/// The handle was closed.
pub(crate) fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Connection, "this handle of the store in memory is closed")
}

/// The fence was refused: this worker was declared dead, or left, or its fence has a new incarnation.
pub(crate) fn fenced(worker: WorkerId) -> StoreError {
    StoreError::new(
        StoreErrorKind::Fenced,
        format!("{worker} is fenced off: it is no longer alive, or its fence has a new incarnation"),
    )
}

/// Data that a database would refuse.
pub(crate) fn permanent(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Permanent, message)
}

/// The store is no longer as the call expected it.
pub(crate) fn refused(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Refused, message)
}

/// Rows that are no whole tree.
pub(crate) fn unreadable(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Unreadable, message)
}
