//! The schema: making it, and refusing one that this build cannot work with.
//!
//! A schema fits if it was made by exactly the migrations of this build. `_sqlx_migrations` has the version and
//! the checksum of each that was applied. Until the first release migrations are edited in place, so equal versions
//! alone prove nothing.

use sapwood_core::store::{StoreError, StoreResult};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::{failed, migration_failed, permanent};
use crate::store::PostgresStore;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/postgres");

impl PostgresStore {
    /// Makes the schema, or brings it up to this build's version. Several may call this at once; one does it.
    ///
    /// # Errors
    /// Those of connecting; permanent if the schema is newer than this build or was made by another set of migrations,
    /// or if the user lacks the permission.
    pub async fn migrate(&self) -> StoreResult<()> {
        let mut connection = self.connector.open("migrate").await?;
        let migrated = migrate(&mut connection, &self.connector.schema).await;
        // The lock belongs to the session, so it is gone with the connection, whatever happened in between.
        drop(connection);
        migrated?;
        self.read_settings().await
    }

    /// Whether the schema is the one that this build makes.
    ///
    /// # Errors
    /// Permanent if it is not: older or newer, with both versions, or made by another set of migrations. Those of
    /// connecting.
    pub async fn schema_check(&self) -> StoreResult<()> {
        let mut connection = self.connector.open("check").await?;
        let schema = &self.connector.schema;
        match fit(&applied(&mut connection).await?) {
            Fit::Exact => self.read_settings().await,
            Fit::Older(found) => Err(permanent(format!(
                "the schema {schema} is at version {found}, this build needs {}: run the `migrate` command",
                newest()
            ))),
            Fit::Newer(found) => Err(too_new(schema, found)),
            Fit::OtherSet(first) => Err(other_set(schema, first)),
        }
    }
}

/// A migration that was applied: its version and its checksum.
type Applied = (i64, Vec<u8>);

/// How a schema fits this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// This build's migrations made it.
    Exact,
    /// The first of this build's migrations made it, up to this version; 0 if there is no schema.
    Older(i64),
    /// All of this build's migrations made it, and more, up to this version.
    Newer(i64),
    /// Another set of migrations made it: the first difference is at this version.
    OtherSet(i64),
}

fn fit(applied: &[Applied]) -> Fit {
    let mut known = MIGRATOR.iter();
    for (version, checksum) in applied {
        match known.next() {
            Some(migration) if migration.version == *version && migration.checksum[..] == checksum[..] => {}
            Some(migration) => return Fit::OtherSet(migration.version),
            None => return Fit::Newer(applied.last().map_or(*version, |(version, _)| *version)),
        }
    }
    match known.next() {
        Some(_) => Fit::Older(applied.last().map_or(0, |(version, _)| *version)),
        None => Fit::Exact,
    }
}

/// The version of this build's newest migration.
fn newest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn migrate(connection: &mut PgConnection, schema: &str) -> StoreResult<()> {
    let doing = "create the schema";
    // sqlx locks the migrations themselves; this lock also covers the creation of the schema, which comes before them.
    sqlx::query(include_str!("../queries/schema_lock.sql"))
        .bind(schema)
        .execute(&mut *connection)
        .await
        .map_err(|error| failed(doing, error))?;
    // A parameter cannot name a schema. The name was checked when the options were read: it has no quotes.
    sqlx::query(AssertSqlSafe(format!(r#"create schema if not exists "{schema}""#)))
        .execute(&mut *connection)
        .await
        .map_err(|error| failed(doing, error))?;
    match fit(&applied(connection).await?) {
        Fit::Exact => Ok(()),
        Fit::Older(_) => MIGRATOR.run_direct(None, connection, false).await.map_err(migration_failed),
        Fit::Newer(found) => Err(too_new(schema, found)),
        Fit::OtherSet(first) => Err(other_set(schema, first)),
    }
}

/// The migrations that made the schema, in order; none if there is no schema.
async fn applied(connection: &mut PgConnection) -> StoreResult<Vec<Applied>> {
    let doing = "read the schema's version";
    let exists: bool = sqlx::query_scalar(include_str!("../queries/schema_exists.sql"))
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| failed(doing, error))?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_as(include_str!("../queries/schema_read.sql"))
        .fetch_all(connection)
        .await
        .map_err(|error| failed(doing, error))
}

fn too_new(schema: &str, found: i64) -> StoreError {
    permanent(format!(
        "the schema {schema} is at version {found}, newer than this build, which knows {}: use a newer build",
        newest()
    ))
}

fn other_set(schema: &str, first: i64) -> StoreError {
    permanent(format!(
        "the schema {schema} was made by another set of migrations than this build's (they differ from version {first} \
         on). Before the first release no path leads from one set to another: drop the schema and create it anew"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Applied> {
        MIGRATOR.iter().map(|migration| (migration.version, migration.checksum.to_vec())).collect()
    }

    #[test]
    fn a_schema_fits_by_the_versions_and_checksums_of_its_migrations() {
        let (all, newest) = (known(), newest());
        assert_eq!(fit(&all), Fit::Exact);
        assert_eq!(fit(&[]), Fit::Older(0));
        assert_eq!(fit(&all[..3]), Fit::Older(3));
        let more = [&all[..], &[(newest + 1, vec![0]), (9001, vec![0])]].concat();
        assert_eq!(fit(&more), Fit::Newer(9001));
        let mut edited = all.clone();
        edited[1].1 = vec![0];
        assert_eq!(fit(&edited), Fit::OtherSet(2));
        let gap = [&all[..2], &all[3..]].concat();
        assert_eq!(fit(&gap), Fit::OtherSet(3));
    }

    #[test]
    fn migrations_are_numbered_without_gaps() {
        let versions: Vec<_> = MIGRATOR.iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..=newest()).collect::<Vec<_>>());
    }
}
