//! The classes of errors: who must act is decided here, so that no loop reads an SQLSTATE.

use sapwood_core::WorkerId;
use sapwood_core::store::{StoreError, StoreErrorKind};

/// The error of something that failed while `doing`: "commit turns", "read a tree".
///
/// A store's trouble is said in the message, because health and logs show no more than that; what is wrong with data may
/// quote the data, so it is left to the cause.
pub(crate) fn failed(doing: &str, error: sqlx::Error) -> StoreError {
    let kind = kind_of(&error);
    if kind == StoreErrorKind::Permanent {
        return StoreError::new(kind, format!("PostgreSQL refused to {doing}")).caused_by(error);
    }
    if let sqlx::Error::Database(database) = &error {
        let state = database.code().unwrap_or_default();
        return StoreError::new(kind, format!("PostgreSQL cannot {doing} now: {} ({state})", database.message()));
    }
    let message = match kind {
        StoreErrorKind::Connection => {
            format!("could not {doing}: the connection to PostgreSQL is lost or not available")
        }
        _ => format!("PostgreSQL cannot {doing} now"),
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

/// Only an error of the data itself is permanent: a commit that fails permanently parks its tree for good. All else is
/// the store's trouble, and the same again may succeed once an operator has mended the store.
fn kind_of(error: &sqlx::Error) -> StoreErrorKind {
    match error {
        sqlx::Error::Database(database) => {
            let state = database.code().unwrap_or_default();
            // A row that finds no partition is refused like one that breaks a check, but names no constraint.
            if state == "23514" && database.constraint().is_none() {
                return StoreErrorKind::Transient;
            }
            kind_of_state(&state)
        }
        // What a broken connection looks like: nothing arrived, or half of something did.
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::PoolClosed
        | sqlx::Error::PoolTimedOut => StoreErrorKind::Connection,
        // A value that cannot be sent, or a row that cannot be read.
        sqlx::Error::Encode(_)
        | sqlx::Error::InvalidArgument(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::TypeNotFound { .. } => StoreErrorKind::Permanent,
        _ => StoreErrorKind::Transient,
    }
}

/// Whether the connection can be used again after a statement that failed with `error`: the data was refused, or another
/// transaction was in the way. Whatever else happened may be a matter of this one session, such as a server that became
/// read-only or a prepared statement that is gone, and the next connection is free of it.
pub(crate) fn is_usable_after(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => {
            let state = database.code().unwrap_or_default();
            is_contention(&state) || kind_of_state(&state) == StoreErrorKind::Permanent
        }
        sqlx::Error::RowNotFound => true,
        _ => false,
    }
}

/// What the first statements of connections meet behind a pooler that lends its sessions and knows nothing of prepared
/// statements: one of that name is there already, or is not there.
pub(crate) fn is_of_a_pooler(state: &str) -> bool {
    matches!(state, "42P05" | "26000")
}

/// Whether the connection is lost, or no longer what it was.
pub(crate) fn is_of_the_connection(error: &sqlx::Error) -> bool {
    kind_of(error) == StoreErrorKind::Connection
}

/// A statement failed before in the same transaction, which can only be rolled back.
pub(crate) fn is_of_a_failed_transaction(error: &sqlx::Error) -> bool {
    let state = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    state.is_some_and(|state| state == "25P02")
}

/// A table or a schema is not there.
pub(crate) fn is_of_a_table_gone(error: &sqlx::Error) -> bool {
    let state = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    state.is_some_and(|state| matches!(&*state, "42P01" | "3F000"))
}

/// Serialization failure, deadlock, a lock that was not to be had in time, a cancelled statement.
fn is_contention(state: &str) -> bool {
    matches!(state, "40001" | "40P01" | "55P03" | "57014")
}

/// Classes of SQLSTATE, see appendix A of PostgreSQL's manual.
fn kind_of_state(state: &str) -> StoreErrorKind {
    match state {
        // The server shuts down, crashed, or cannot take connections yet; an idle session was ended.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => StoreErrorKind::Connection,
        // A commit whose outcome is unknown, as the server itself says.
        "40003" => StoreErrorKind::Connection,
        // Read only: after a failover the connection is to a standby.
        "25006" => StoreErrorKind::Connection,
        _ => match state.get(..2) {
            Some("08") => StoreErrorKind::Connection,
            // Values that do not fit their type; rows that break a constraint; more than the database can hold in one
            // place, such as a key too long for its index.
            Some("22" | "23" | "54") => StoreErrorKind::Permanent,
            _ => StoreErrorKind::Transient,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every class of appendix A; single states where they differ from their class.
    #[test]
    fn only_the_classes_of_data_are_blamed_on_it() {
        use StoreErrorKind::{Connection, Permanent, Transient};
        for (kind, states) in [
            (
                Permanent,
                &["22000", "22003", "22021", "22P05", "23502", "23505", "23514", "54000", "54001", "54023"][..],
            ),
            (Connection, &["08000", "08006", "08P01", "25006", "25P03", "40003", "57P01", "57P02", "57P03", "57P05"]),
            (Transient, &["03000", "09000", "0A000", "0B000", "0F000", "0L000", "0P000", "0Z000", "20000", "21000"]),
            (Transient, &["24000", "25000", "25P02", "26000", "27000", "28000", "28P01", "2B000", "2D000", "2F000"]),
            (Transient, &["34000", "38000", "39000", "3B000", "3D000", "3F000", "40001", "40P01", "42501", "42601"]),
            (Transient, &["42703", "42804", "42883", "42P01", "42P05", "44000", "53000", "53100", "53200", "53300"]),
            (Transient, &["55000", "55006", "55P03", "57000", "57014", "57P04", "58000", "58030", "72000", "F0000"]),
            (Transient, &["HV000", "P0001", "XX000", "XX001", "XX002", ""]),
        ] {
            for state in states {
                assert_eq!(kind_of_state(state), kind, "{state}");
            }
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_the_data_s_and_a_broken_answer_is_the_connection_s() {
        let io = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for (error, kind) in [
            (sqlx::Error::Encode("too long".into()), StoreErrorKind::Permanent),
            (sqlx::Error::Decode("no number".into()), StoreErrorKind::Permanent),
            (sqlx::Error::ColumnNotFound("state".to_owned()), StoreErrorKind::Permanent),
            (sqlx::Error::Io(io()), StoreErrorKind::Connection),
            (sqlx::Error::Protocol("half an answer".to_owned()), StoreErrorKind::Connection),
            (sqlx::Error::PoolTimedOut, StoreErrorKind::Connection),
            (sqlx::Error::RowNotFound, StoreErrorKind::Transient),
        ] {
            assert_eq!(kind_of(&error), kind, "{error}");
            assert_eq!(failed("read a tree", error).kind(), kind);
        }
    }
}
