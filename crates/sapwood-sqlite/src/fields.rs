//! Values on their way out of a row, in the order of its columns.

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::store::{StoreError, StoreResult};
use sapwood_core::{FunctionVersion, Path, ProcessId, TreeId, WorkerId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Column, Decode, Row, Sqlite, Type};
use uuid::Uuid;

use crate::error::unreadable;

/// Reads a row column by column, from the left.
pub(crate) struct Fields<'r> {
    row: &'r SqliteRow,
    next: usize,
}

impl<'r> Fields<'r> {
    pub(crate) fn of(row: &'r SqliteRow) -> Self {
        Self { row, next: 0 }
    }

    pub(crate) fn int(&mut self) -> StoreResult<i64> {
        self.take()
    }

    pub(crate) fn opt_int(&mut self) -> StoreResult<Option<i64>> {
        self.take()
    }

    /// A number of the width its column is written from.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self) -> StoreResult<T> {
        let value = self.int()?;
        self.narrow(value)
    }

    pub(crate) fn opt_number<T: TryFrom<i64>>(&mut self) -> StoreResult<Option<T>> {
        let value = self.opt_int()?;
        value.map(|value| self.narrow(value)).transpose()
    }

    /// A stored code, by what reads it.
    pub(crate) fn code<T>(&mut self, read: impl Fn(i16) -> Option<T>) -> StoreResult<T> {
        let code = self.int()?;
        i16::try_from(code).ok().and_then(read).ok_or_else(|| self.wrong(format_args!("unknown code {code}")))
    }

    pub(crate) fn time(&mut self) -> StoreResult<Timestamp> {
        let micros = self.int()?;
        self.instant(micros)
    }

    pub(crate) fn opt_time(&mut self) -> StoreResult<Option<Timestamp>> {
        let micros = self.opt_int()?;
        micros.map(|micros| self.instant(micros)).transpose()
    }

    pub(crate) fn text(&mut self) -> StoreResult<String> {
        self.take()
    }

    /// The name of a function, without its version.
    pub(crate) fn function(&mut self) -> StoreResult<String> {
        let name = self.text()?;
        if name.is_empty() { Err(self.wrong("no function has an empty name")) } else { Ok(name) }
    }

    pub(crate) fn opt_text(&mut self) -> StoreResult<Option<String>> {
        self.take()
    }

    pub(crate) fn blob(&mut self) -> StoreResult<Bytes> {
        self.take::<Vec<u8>>().map(Bytes::from)
    }

    pub(crate) fn opt_blob(&mut self) -> StoreResult<Option<Bytes>> {
        self.take::<Option<Vec<u8>>>().map(|blob| blob.map(Bytes::from))
    }

    pub(crate) fn tree(&mut self) -> StoreResult<TreeId> {
        self.take::<Uuid>().map(TreeId::from)
    }

    pub(crate) fn path(&mut self) -> StoreResult<Path> {
        let bytes: Vec<u8> = self.take()?;
        Path::from_bytes(&bytes).map_err(|error| self.wrong(error))
    }

    pub(crate) fn opt_worker(&mut self) -> StoreResult<Option<WorkerId>> {
        self.opt_int().map(|id| id.map(WorkerId))
    }

    pub(crate) fn opt_process(&mut self) -> StoreResult<Option<ProcessId>> {
        self.take::<Option<Uuid>>().map(|id| id.map(ProcessId))
    }

    pub(crate) fn opt_function_version(&mut self) -> StoreResult<Option<FunctionVersion>> {
        let text = self.opt_text()?;
        text.map(|text| text.parse().map_err(|error| self.wrong(error))).transpose()
    }

    fn take<T: Decode<'r, Sqlite> + Type<Sqlite>>(&mut self) -> StoreResult<T> {
        let column = self.next;
        self.next += 1;
        self.row.try_get(column).map_err(|error| match error {
            sqlx::Error::ColumnDecode { source, .. } => self.wrong(source),
            error => self.wrong(error),
        })
    }

    fn narrow<T: TryFrom<i64>>(&self, value: i64) -> StoreResult<T> {
        T::try_from(value).map_err(|_| self.wrong(format_args!("{value} is out of range")))
    }

    fn instant(&self, micros: i64) -> StoreResult<Timestamp> {
        Timestamp::from_microsecond(micros).map_err(|error| self.wrong(error))
    }

    /// The error of the value that was read last.
    pub(crate) fn wrong(&self, why: impl std::fmt::Display) -> StoreError {
        let name = self.row.columns().get(self.next.saturating_sub(1)).map_or("?", Column::name);
        unreadable(format_args!("value in column `{name}`: {why}"))
    }
}
