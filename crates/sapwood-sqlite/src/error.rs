//! SQLite's and sqlx's errors, classified by who must act.

use sapwood_core::WorkerId;
use sapwood_core::store::{StoreError, StoreErrorKind};

/// Classifies an error of a statement or a connection. The store's trouble is said in the message, because health and logs
/// show no more than that.
pub(crate) fn classify(error: sqlx::Error) -> StoreError {
    let (kind, message) = match &error {
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().and_then(|code| code.parse().ok()).unwrap_or(1);
            let (kind, what) = of_code(code);
            if kind != StoreErrorKind::Permanent {
                return StoreError::new(kind, format!("{what}: {} ({code})", refusal.message()));
            }
            (kind, what)
        }
        sqlx::Error::PoolTimedOut => (StoreErrorKind::Transient, "all readers of SQLite are busy"),
        sqlx::Error::PoolClosed => return closed(),
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => {
            (StoreErrorKind::Connection, "the connection to SQLite was lost")
        }
        sqlx::Error::RowNotFound => (StoreErrorKind::Transient, "SQLite gave no row where there always is one"),
        _ => (StoreErrorKind::Permanent, "a statement and the database do not fit together"),
    };
    StoreError::new(kind, message).caused_by(error)
}

/// The class of an extended result code; its low byte is the primary one. Only what is wrong with the data itself is
/// permanent: a commit that fails permanently parks its tree for good, and all else passes once an operator has mended the
/// store.
fn of_code(code: i32) -> (StoreErrorKind, &'static str) {
    match code & 0xff {
        // TOOBIG, CONSTRAINT, MISMATCH.
        18..=20 => (StoreErrorKind::Permanent, "the SQLite database refuses a row"),
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
        // CORRUPT, NOTADB: a file that is put in its place is read by a connection that is opened again.
        11 | 26 => (StoreErrorKind::Connection, "the SQLite database is damaged"),
        // PERM, AUTH.
        3 | 23 => (StoreErrorKind::Transient, "the SQLite database permits no access"),
        // ERROR, as of a table that is not there, SCHEMA, and what should not happen.
        _ => (StoreErrorKind::Transient, "SQLite cannot carry out a statement"),
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

    /// Every primary result code, and extended ones where they are what is met.
    #[test]
    fn only_the_codes_of_data_are_blamed_on_it() {
        use StoreErrorKind::{Connection, Permanent, Transient};
        for (kind, codes) in [
            // TOOBIG, CONSTRAINT (of a primary key), MISMATCH.
            (Permanent, &[18, 19, 1_555, 20][..]),
            // READONLY, IOERR (of an fsync), CORRUPT, CANTOPEN, NOTADB.
            (Connection, &[8, 10, 1_034, 11, 14, 26]),
            // ERROR, INTERNAL, PERM, ABORT, BUSY (of a snapshot), LOCKED, NOMEM, INTERRUPT, NOTFOUND, FULL, PROTOCOL,
            // EMPTY, SCHEMA, MISUSE, NOLFS, AUTH, FORMAT, RANGE.
            (Transient, &[1, 2, 3, 4, 5, 517, 6, 7, 9, 12, 13, 15, 16, 17, 21, 22, 23, 24, 25]),
        ] {
            for code in codes {
                assert_eq!(of_code(*code).0, kind, "{code}");
            }
        }
    }
}
