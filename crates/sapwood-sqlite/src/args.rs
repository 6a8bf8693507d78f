//! Values on their way into a statement, in the stored forms.

use jiff::Timestamp;
use sapwood_core::store::StoreResult;
use sapwood_core::{Path, ProcessId, TreeId, WorkerId};
use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Encode, Sqlite, Type};

use crate::error::classify;

/// The arguments of a statement, in order. Times are stored as microseconds since 1970.
pub(crate) struct Args(Result<SqliteArguments, BoxDynError>);

impl Args {
    /// No argument yet, with room for `count`.
    pub(crate) fn of(count: usize) -> Self {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(count, 0);
        Self(Ok(arguments))
    }

    pub(crate) fn int(mut self, value: impl Into<i64>) -> Self {
        self.put(value.into());
        self
    }

    pub(crate) fn opt_int(mut self, value: Option<impl Into<i64>>) -> Self {
        self.put(value.map(Into::into));
        self
    }

    pub(crate) fn count(mut self, value: usize) -> Self {
        // A count that SQLite cannot hold bounds nothing.
        self.put(i64::try_from(value).unwrap_or(i64::MAX));
        self
    }

    pub(crate) fn time(self, value: Timestamp) -> Self {
        self.int(value.as_microsecond())
    }

    pub(crate) fn opt_time(self, value: Option<Timestamp>) -> Self {
        self.opt_int(value.map(Timestamp::as_microsecond))
    }

    pub(crate) fn worker(self, value: WorkerId) -> Self {
        self.int(value.0)
    }

    pub(crate) fn text(mut self, value: impl Into<String>) -> Self {
        self.put(value.into());
        self
    }

    pub(crate) fn opt_text(mut self, value: Option<impl Into<String>>) -> Self {
        self.put(value.map(Into::into));
        self
    }

    pub(crate) fn blob(mut self, value: &[u8]) -> Self {
        self.put(value);
        self
    }

    pub(crate) fn opt_blob(mut self, value: Option<&[u8]>) -> Self {
        self.put(value);
        self
    }

    pub(crate) fn tree(mut self, value: TreeId) -> Self {
        self.put(value.uuid());
        self
    }

    pub(crate) fn opt_process(mut self, value: Option<ProcessId>) -> Self {
        self.put(value.map(|process| process.0));
        self
    }

    pub(crate) fn path(mut self, value: &Path) -> Self {
        self.put(value.to_bytes());
        self
    }

    /// What sqlx takes.
    pub(crate) fn into_inner(self) -> StoreResult<SqliteArguments> {
        self.0.map_err(|error| classify(sqlx::Error::Encode(error)))
    }

    fn put<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) {
        if let Ok(arguments) = &mut self.0
            && let Err(error) = Arguments::add(arguments, value)
        {
            self.0 = Err(error);
        }
    }
}
