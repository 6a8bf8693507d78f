//! Values on their way into a statement and out of a row, in the stored forms.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};
use sapwood_core::{FunctionVersion, Path, TreeId, WorkerId};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Row, Type};

/// A `timestamptz`. What is finer than a microsecond is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) Timestamp);

impl Stamp {
    /// From the year 1970 to the year 2000, from which PostgreSQL counts.
    const EPOCH_MICROS: i64 = 946_684_800_000_000;
    /// `timestamptz` and `timestamptz[]` in `pg_type`; they are the same in every database.
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

/// A length of time, as a parameter.
pub(crate) fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// A bound on the number of rows, as a parameter. One that PostgreSQL cannot hold bounds nothing.
pub(crate) fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A row, and what it is read for, so that an error says both.
pub(crate) struct Fields<'r> {
    row: &'r PgRow,
    doing: &'static str,
}

impl<'r> Fields<'r> {
    pub(crate) const fn of(row: &'r PgRow, doing: &'static str) -> Self {
        Self { row, doing }
    }

    /// A column as the driver reads it.
    pub(crate) fn plain<T>(&self, column: &str) -> StoreResult<T>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        self.row.try_get(column).map_err(|error| match error {
            sqlx::Error::ColumnDecode { source, .. } => self.unreadable(column, source),
            error => self.unreadable(column, error),
        })
    }

    /// A number that is stored as the bits of an unsigned one.
    pub(crate) fn unsigned(&self, column: &str) -> StoreResult<u32> {
        Ok(self.plain::<i32>(column)?.cast_unsigned())
    }

    pub(crate) fn opt_unsigned(&self, column: &str) -> StoreResult<Option<u32>> {
        Ok(self.plain::<Option<i32>>(column)?.map(i32::cast_unsigned))
    }

    /// A stored code, by what reads it.
    pub(crate) fn code<T>(&self, column: &str, read: impl Fn(i16) -> Option<T>) -> StoreResult<T> {
        let code = self.plain(column)?;
        read(code).ok_or_else(|| self.unreadable(column, format!("unknown code {code}")))
    }

    /// The name of a function, without its version.
    pub(crate) fn function(&self, column: &str) -> StoreResult<String> {
        let name: String = self.plain(column)?;
        if name.is_empty() { Err(self.unreadable(column, "no function has an empty name")) } else { Ok(name) }
    }

    /// A version of a function, as `name@version`.
    pub(crate) fn opt_function_version(&self, column: &str) -> StoreResult<Option<FunctionVersion>> {
        let text: Option<&str> = self.plain(column)?;
        text.map(str::parse).transpose().map_err(|error| self.unreadable(column, error))
    }

    pub(crate) fn time(&self, column: &str) -> StoreResult<Timestamp> {
        Ok(self.plain::<Stamp>(column)?.0)
    }

    pub(crate) fn opt_time(&self, column: &str) -> StoreResult<Option<Timestamp>> {
        Ok(self.plain::<Option<Stamp>>(column)?.map(|stamp| stamp.0))
    }

    pub(crate) fn bytes(&self, column: &str) -> StoreResult<Bytes> {
        Ok(Bytes::copy_from_slice(self.plain::<&[u8]>(column)?))
    }

    pub(crate) fn opt_bytes(&self, column: &str) -> StoreResult<Option<Bytes>> {
        Ok(self.plain::<Option<&[u8]>>(column)?.map(Bytes::copy_from_slice))
    }

    pub(crate) fn tree(&self, column: &str) -> StoreResult<TreeId> {
        Ok(TreeId::from(self.plain::<uuid::Uuid>(column)?))
    }

    pub(crate) fn path(&self, column: &str) -> StoreResult<Path> {
        Path::from_bytes(self.plain(column)?).map_err(|error| self.unreadable(column, error))
    }

    pub(crate) fn opt_worker(&self, column: &str) -> StoreResult<Option<WorkerId>> {
        Ok(self.plain::<Option<i64>>(column)?.map(WorkerId))
    }

    /// The error of a value that no build of this version writes.
    pub(crate) fn unreadable(&self, column: &str, why: impl Into<BoxDynError>) -> StoreError {
        let why = why.into();
        let message = format!("could not {}: this build cannot read column `{column}`: {why}", self.doing);
        StoreError::new(StoreErrorKind::Unreadable, message).caused_by(why)
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
