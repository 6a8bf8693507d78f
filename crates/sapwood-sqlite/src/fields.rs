//! Values on their way out of a row, in the order of its columns.

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::store::StoreResult;
use sapwood_core::{FunctionVersion, Path, TreeId, WorkerId};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};
use uuid::Uuid;

use crate::error::{classify, unreadable};

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
        narrow(self.int()?)
    }

    pub(crate) fn opt_number<T: TryFrom<i64>>(&mut self) -> StoreResult<Option<T>> {
        self.opt_int()?.map(narrow).transpose()
    }

    /// A stored code, by what reads it.
    pub(crate) fn code<T>(&mut self, read: impl Fn(i16) -> Option<T>, what: &'static str) -> StoreResult<T> {
        let code = self.int()?;
        i16::try_from(code).ok().and_then(read).ok_or_else(|| unreadable(format_args!("{what} {code}")))
    }

    pub(crate) fn time(&mut self) -> StoreResult<Timestamp> {
        instant(self.int()?)
    }

    pub(crate) fn opt_time(&mut self) -> StoreResult<Option<Timestamp>> {
        self.opt_int()?.map(instant).transpose()
    }

    pub(crate) fn text(&mut self) -> StoreResult<String> {
        self.take()
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
        Path::from_bytes(&bytes).map_err(|_| unreadable("path of an invocation"))
    }

    pub(crate) fn opt_worker(&mut self) -> StoreResult<Option<WorkerId>> {
        self.opt_int().map(|id| id.map(WorkerId))
    }

    pub(crate) fn opt_function_version(&mut self) -> StoreResult<Option<FunctionVersion>> {
        let text = self.opt_text()?;
        text.map(|text| text.parse().map_err(|_| unreadable(format_args!("version of a function `{text}`"))))
            .transpose()
    }

    fn take<T: Decode<'r, Sqlite> + Type<Sqlite>>(&mut self) -> StoreResult<T> {
        let column = self.next;
        self.next += 1;
        self.row.try_get(column).map_err(classify)
    }
}

fn narrow<T: TryFrom<i64>>(value: i64) -> StoreResult<T> {
    T::try_from(value).map_err(|_| unreadable(format_args!("number {value}")))
}

fn instant(micros: i64) -> StoreResult<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|_| unreadable(format_args!("time {micros}")))
}
