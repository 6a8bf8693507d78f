//! Conversions between rows and the words of the domain.

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::store::StoreResult;
use sapwood_core::tree::{Cause, Closing, Invocation, InvocationState, Phase, Timer, TimerKind, TreeRow, TreeState};
use sapwood_core::{Path, TreeId, WorkerId};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Row, Type};

use crate::error::failed;

/// A `timestamptz`. What is finer than a microsecond is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) Timestamp);

impl Stamp {
    /// From the year 1970 to the year 2000, where PostgreSQL counts from.
    const EPOCH_MICROS: i64 = 946_684_800_000_000;
    const OID: Oid = Oid(1184);
    const ARRAY_OID: Oid = Oid(1185);
}

impl Type<Postgres> for Stamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Self::OID)
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        ty.oid() == Some(Self::OID)
    }
}

impl PgHasArrayType for Stamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Self::ARRAY_OID)
    }
}

impl Encode<'_, Postgres> for Stamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<'_, Postgres>>::encode(self.0.as_microsecond() - Self::EPOCH_MICROS, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Stamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<'_, Postgres>>::decode(value)?;
        Ok(Self(Timestamp::from_microsecond(micros.saturating_add(Self::EPOCH_MICROS))?))
    }
}

/// A row and what it is read for, so that an error says both.
pub(crate) struct Reader<'r> {
    row: &'r PgRow,
    doing: &'static str,
}

impl<'r> Reader<'r> {
    pub(crate) const fn new(row: &'r PgRow, doing: &'static str) -> Self {
        Self { row, doing }
    }

    /// A column as the driver reads it.
    pub(crate) fn plain<T>(&self, column: &str) -> StoreResult<T>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        self.row.try_get(column).map_err(|error| failed(self.doing, error))
    }

    pub(crate) fn tree(&self, column: &str) -> StoreResult<TreeId> {
        Ok(TreeId::from(self.plain::<uuid::Uuid>(column)?))
    }

    pub(crate) fn unsigned(&self, column: &str) -> StoreResult<u32> {
        Ok(self.plain::<i32>(column)?.cast_unsigned())
    }

    pub(crate) fn unsigned_or_null(&self, column: &str) -> StoreResult<Option<u32>> {
        Ok(self.plain::<Option<i32>>(column)?.map(i32::cast_unsigned))
    }

    pub(crate) fn time(&self, column: &str) -> StoreResult<Timestamp> {
        Ok(self.plain::<Stamp>(column)?.0)
    }

    pub(crate) fn time_or_null(&self, column: &str) -> StoreResult<Option<Timestamp>> {
        Ok(self.plain::<Option<Stamp>>(column)?.map(|stamp| stamp.0))
    }

    pub(crate) fn bytes(&self, column: &str) -> StoreResult<Bytes> {
        Ok(Bytes::copy_from_slice(self.plain::<&[u8]>(column)?))
    }

    pub(crate) fn bytes_or_null(&self, column: &str) -> StoreResult<Option<Bytes>> {
        Ok(self.plain::<Option<&[u8]>>(column)?.map(Bytes::copy_from_slice))
    }

    pub(crate) fn path(&self) -> StoreResult<Path> {
        Path::from_bytes(self.plain("path")?).map_err(|error| self.unreadable("path", error))
    }

    pub(crate) fn tree_state(&self, column: &str) -> StoreResult<TreeState> {
        let code = self.plain(column)?;
        TreeState::from_code(code).ok_or_else(|| self.unknown_code(column, code))
    }

    pub(crate) fn tree_row(&self) -> StoreResult<TreeRow> {
        Ok(TreeRow {
            id: self.tree("id")?,
            function: self.plain("function")?,
            version: self.unsigned("version")?,
            state: self.tree_state("state")?,
            owner: self.plain::<Option<i64>>("owner")?.map(WorkerId),
            revision: self.plain::<i64>("revision")?.cast_unsigned(),
            control: self.unsigned("control")?,
            inbox: self.unsigned("inbox")?,
            number: self.unsigned("number")?,
            ready_at: self.time_or_null("ready_at")?,
            needs: self.plain("needs")?,
            cause: Cause {
                correlation: self.plain("correlation")?,
                causation: self.plain("causation")?,
                traceparent: self.plain("traceparent")?,
            },
            created_at: self.time("created_at")?,
            settled_at: self.time_or_null("settled_at")?,
        })
    }

    pub(crate) fn invocation_state(&self) -> StoreResult<InvocationState> {
        let (phase, closing) = (self.plain("phase")?, self.plain("closing")?);
        Ok(InvocationState {
            attempt: self.unsigned("attempt")?,
            phase: Phase::from_code(phase).ok_or_else(|| self.unknown_code("phase", phase))?,
            closing: match closing {
                0 => Closing::None,
                code => return Err(self.unknown_code("closing", code)),
            },
            number: self.unsigned_or_null("number")?,
            seen: self.unsigned_or_null("seen")?,
            outcome: self.bytes_or_null("outcome")?,
            parked: self.bytes_or_null("parked")?,
        })
    }

    /// An invocation, from the columns that it shares with journal entries: its function is a `name`, its input a
    /// `payload`.
    pub(crate) fn invocation(&self) -> StoreResult<Invocation> {
        Ok(Invocation {
            path: self.path()?,
            function: self.plain("name")?,
            version: self.unsigned("version")?,
            input: self.bytes("payload")?,
            state: self.invocation_state()?,
        })
    }

    pub(crate) fn entry(&self) -> StoreResult<Entry> {
        let kind = self.plain("kind")?;
        Ok(Entry {
            seq: self.unsigned("seq")?,
            kind: EntryKind::from_code(kind).ok_or_else(|| self.unknown_code("kind", kind))?,
            position: self.unsigned("position")?,
            number: self.unsigned_or_null("number")?,
            attempt: self.unsigned("attempt")?,
            name: self.plain("name")?,
            payload: self.bytes("payload")?,
        })
    }

    pub(crate) fn timer(&self) -> StoreResult<Timer> {
        let kind = self.plain("kind")?;
        Ok(Timer {
            path: self.path()?,
            position: self.unsigned("position")?,
            kind: TimerKind::from_code(kind).ok_or_else(|| self.unknown_code("kind", kind))?,
            due_at: self.time("due_at")?,
        })
    }

    /// A value that no build of this version writes.
    fn unknown_code(&self, column: &str, code: i16) -> sapwood_core::store::StoreError {
        self.unreadable(column, format!("unknown code {code}"))
    }

    /// A value that cannot be what it should be.
    pub(crate) fn unreadable(&self, column: &str, why: impl Into<BoxDynError>) -> sapwood_core::store::StoreError {
        failed(self.doing, sqlx::Error::ColumnDecode { index: column.to_owned(), source: why.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_the_year_2000() {
        let epoch: Timestamp = "2000-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(epoch.as_microsecond(), Stamp::EPOCH_MICROS);
    }
}
