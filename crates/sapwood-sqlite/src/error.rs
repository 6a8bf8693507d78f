//! SQLite's and sqlx's errors, classified by who must act.

use sapwood_core::WorkerId;
use sapwood_core::store::{StoreError, StoreErrorKind};

/// Classifies an error of a statement or a connection.
pub(crate) fn classify(error: sqlx::Error) -> StoreError {
    let (kind, message) = match &error {
        sqlx::Error::Database(refusal) => of_code(refusal.code().and_then(|code| code.parse().ok()).unwrap_or(1)),
        sqlx::Error::PoolTimedOut => (StoreErrorKind::Transient, "all readers of SQLite are busy"),
        sqlx::Error::PoolClosed => return closed(),
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => {
            (StoreErrorKind::Connection, "the connection to SQLite was lost")
        }
        _ => (StoreErrorKind::Permanent, "a statement and the database do not fit together"),
    };
    StoreError::new(kind, message).caused_by(error)
}

/// The class of an extended result code; its low byte is the primary one.
fn of_code(code: i32) -> (StoreErrorKind, &'static str) {
    match code & 0xff {
        // BUSY, LOCKED, PROTOCOL: a stranger (a backup, a shell) holds the lock of the database.
        5 | 6 | 15 => (StoreErrorKind::Transient, "the SQLite database is locked"),
        // NOMEM, INTERRUPT.
        7 | 9 => (StoreErrorKind::Transient, "SQLite could not finish the statement"),
        // FULL: it comes before the commit record is written whole, so nothing was applied, and an operator can make
        // space.
        13 => (StoreErrorKind::Transient, "the disk of the SQLite database is full"),
        // IOERR, CANTOPEN, READONLY: a matter of the file, not of the data. After a failed fsync it is unknown what has
        // reached the disk: the connection is opened again, and the committer asks what became of its batch.
        8 | 10 | 14 => (StoreErrorKind::Connection, "the SQLite database cannot be read or written"),
        // CORRUPT, NOTADB.
        11 | 26 => (StoreErrorKind::Permanent, "the SQLite database is damaged"),
        // CONSTRAINT.
        19 => (StoreErrorKind::Permanent, "the SQLite database refuses a row"),
        _ => (StoreErrorKind::Permanent, "the SQLite database refuses a statement"),
    }
}

/// The store was closed.
pub(crate) fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Connection, "the SQLite store is closed")
}

/// The fence was refused: this worker was declared dead, or left, or its fence has a new incarnation.
pub(crate) fn fenced(worker: WorkerId) -> StoreError {
    StoreError::new(
        StoreErrorKind::Fenced,
        format!("{worker} is fenced off: it is no longer alive, or its fence has a new incarnation"),
    )
}

/// A row contains what no build of this version writes.
pub(crate) fn unreadable(what: impl std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Unreadable, format!("the SQLite database contains an unreadable {what}"))
}

/// A bug, or data the database refuses.
pub(crate) fn permanent(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Permanent, message)
}

/// The same error for another caller of the same group.
pub(crate) fn again(error: &StoreError) -> StoreError {
    let source = std::error::Error::source(error).map(ToString::to_string);
    let copy = StoreError::new(error.kind(), error.to_string());
    match source {
        Some(source) => copy.caused_by(source),
        None => copy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_who_must_act() {
        let kind = |code| of_code(code).0;
        assert_eq!(kind(5), StoreErrorKind::Transient, "SQLITE_BUSY");
        assert_eq!(kind(517), StoreErrorKind::Transient, "SQLITE_BUSY_SNAPSHOT");
        assert_eq!(kind(13), StoreErrorKind::Transient, "SQLITE_FULL");
        assert_eq!(kind(1034), StoreErrorKind::Connection, "SQLITE_IOERR_FSYNC");
        assert_eq!(kind(1555), StoreErrorKind::Permanent, "SQLITE_CONSTRAINT_PRIMARYKEY");
        assert_eq!(kind(11), StoreErrorKind::Permanent, "SQLITE_CORRUPT");
    }
}
