//! The schema: making it, and refusing one that this build cannot work with.
//!
//! A schema fits if it was made by exactly the migrations of this build. `_sqlx_migrations` has the version and
//! the checksum of each that was applied. Until the first release migrations are edited in place, so equal versions
//! alone prove nothing.

use sapwood_core::store::{AppliedMigration, SchemaFit, StoreError, StoreResult};
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
            SchemaFit::Exact => self.read_settings().await,
            SchemaFit::Older(found) => Err(permanent(format!(
                "the schema {schema} is at version {found}, this build needs {}: run the `migrate` command",
                newest()
            ))),
            SchemaFit::Newer(found) => Err(too_new(schema, found)),
            SchemaFit::OtherSet(first) => Err(other_set(schema, first)),
        }
    }
}

fn fit(applied: &[AppliedMigration]) -> SchemaFit {
    SchemaFit::of(MIGRATOR.iter().map(|migration| (migration.version, &migration.checksum[..])), applied)
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
        SchemaFit::Exact => Ok(()),
        SchemaFit::Older(_) => MIGRATOR.run_direct(None, connection, false).await.map_err(migration_failed),
        SchemaFit::Newer(found) => Err(too_new(schema, found)),
        SchemaFit::OtherSet(first) => Err(other_set(schema, first)),
    }
}

/// The migrations that made the schema, in order; none if there is no schema.
async fn applied(connection: &mut PgConnection) -> StoreResult<Vec<AppliedMigration>> {
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

    #[test]
    fn migrations_are_numbered_without_gaps() {
        let versions: Vec<_> = MIGRATOR.iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..=newest()).collect::<Vec<_>>());
    }
}
