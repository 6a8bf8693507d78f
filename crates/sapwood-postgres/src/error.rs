//! The classes of errors: who must act is decided here, so that no loop reads an SQLSTATE.

use sapwood_core::WorkerId;
use sapwood_core::store::{StoreError, StoreErrorKind};
use sqlx::migrate::MigrateError;

/// The error of something that failed while `doing`: "commit turns", "read a tree".
pub(crate) fn failed(doing: &str, error: sqlx::Error) -> StoreError {
    let kind = kind_of(&error);
    let message = match kind {
        StoreErrorKind::Connection => {
            format!("could not {doing}: the connection to PostgreSQL is lost or not available")
        }
        StoreErrorKind::Transient => format!("PostgreSQL could not {doing} just now"),
        _ => format!("PostgreSQL refused to {doing}"),
    };
    StoreError::new(kind, message).caused_by(error)
}

/// No answer in time: the statement may have been applied, or may still be.
pub(crate) fn unanswered(doing: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Connection, format!("PostgreSQL did not answer in time when asked to {doing}"))
}

/// The fence was refused: this worker was declared dead, or left, or another connection took its fence.
pub(crate) fn fenced(worker: WorkerId) -> StoreError {
    StoreError::new(
        StoreErrorKind::Fenced,
        format!("{worker} is fenced off: it is no longer alive, or another connection has its fence"),
    )
}

/// A mistake in the options, or a schema that this build cannot work with.
pub(crate) fn permanent(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Permanent, message)
}

/// The error of a migration that failed.
pub(crate) fn migration_failed(error: MigrateError) -> StoreError {
    let doing = "migrate the schema";
    match error {
        MigrateError::Execute(error) => failed(doing, error),
        MigrateError::ExecuteMigration(error, number) => failed(&format!("apply migration {number}"), error),
        other => permanent(format!("cannot {doing}")).caused_by(other),
    }
}

fn kind_of(error: &sqlx::Error) -> StoreErrorKind {
    match error {
        sqlx::Error::Database(database) => {
            database.code().map_or(StoreErrorKind::Permanent, |code| kind_of_state(&code))
        }
        // What a broken connection looks like: nothing arrived, or half of something did.
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::PoolClosed
        | sqlx::Error::PoolTimedOut => StoreErrorKind::Connection,
        _ => StoreErrorKind::Permanent,
    }
}

/// Whether the connection can be used again after a statement that failed with `error`: the server answered, and goes
/// on.
pub(crate) fn is_usable_after(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_)) && kind_of(error) != StoreErrorKind::Connection
}

/// Classes of SQLSTATE, see appendix A of PostgreSQL's manual.
fn kind_of_state(state: &str) -> StoreErrorKind {
    match state {
        // Serialization failure, deadlock, a lock that was not to be had in time, a cancelled statement.
        "40001" | "40P01" | "55P03" | "57014" => StoreErrorKind::Transient,
        // The server shuts down, crashed, or cannot take connections yet; an idle session was ended.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => StoreErrorKind::Connection,
        // A commit whose outcome is unknown, as the server itself says.
        "40003" => StoreErrorKind::Connection,
        // A table was altered under a prepared statement; the next attempt prepares it again.
        "0A000" => StoreErrorKind::Transient,
        // Too many connections, disk full, out of memory: an operator has to act, and the same again may succeed then.
        _ if state.starts_with("53") => StoreErrorKind::Transient,
        _ if state.starts_with("08") => StoreErrorKind::Connection,
        // The machine or the file system fails.
        _ if state.starts_with("58") => StoreErrorKind::Transient,
        // Read only: after a failover the connection is to a standby.
        "25006" => StoreErrorKind::Connection,
        _ => StoreErrorKind::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_sqlstate_says_who_must_act() {
        for (state, kind) in [
            ("40001", StoreErrorKind::Transient),
            ("40P01", StoreErrorKind::Transient),
            ("53300", StoreErrorKind::Transient),
            ("57014", StoreErrorKind::Transient),
            ("57P01", StoreErrorKind::Connection),
            ("08006", StoreErrorKind::Connection),
            ("22021", StoreErrorKind::Permanent),
            ("23505", StoreErrorKind::Permanent),
            ("42P01", StoreErrorKind::Permanent),
        ] {
            assert_eq!(kind_of_state(state), kind, "{state}");
        }
    }
}
