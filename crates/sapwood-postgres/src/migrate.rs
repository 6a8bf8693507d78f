//! The schema: making it, and refusing one of another version.

use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::PostgresStore;
use crate::error::{failed, migration_failed};

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/postgres");

impl PostgresStore {
    /// Makes the schema, or brings it up to this build's version. Several may call this at once; one does it.
    ///
    /// # Errors
    /// Those of connecting; permanent where the schema is newer than this build, or where the user may not.
    pub async fn migrate(&self) -> StoreResult<()> {
        let mut connection = self.connector.open("migrate").await?;
        // The lock is the session's, so closing the connection gives it back, whatever happens in between.
        let migrated = migrate(&mut connection, &self.connector.schema).await;
        drop(connection);
        migrated?;
        self.learn_lanes().await
    }

    /// Whether the schema is of this build's version.
    ///
    /// # Errors
    /// Permanent, naming both versions, where it is not; those of connecting.
    pub async fn schema_check(&self) -> StoreResult<()> {
        let mut connection = self.connector.open("check").await?;
        let (found, known) = (schema_version(&mut connection).await?, known_version());
        match found.cmp(&known) {
            std::cmp::Ordering::Equal => self.learn_lanes().await,
            std::cmp::Ordering::Greater => Err(too_new(found, known)),
            std::cmp::Ordering::Less => Err(StoreError::new(
                StoreErrorKind::Permanent,
                format!("the schema is at version {found}, this build needs {known}: run the `migrate` command"),
            )),
        }
    }
}

/// The version that this build makes.
fn known_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn migrate(connection: &mut PgConnection, schema: &str) -> StoreResult<()> {
    let doing = "create the schema";
    // The migrations have a lock of their own; this one also covers the creation of the schema, which they need.
    sqlx::query("select pg_advisory_lock(hashtext('sapwood migrate'), hashtext($1))")
        .bind(schema)
        .execute(&mut *connection)
        .await
        .map_err(|error| failed(doing, error))?;
    // Checked when the options were read: a name of a schema holds no quotes.
    sqlx::query(AssertSqlSafe(format!(r#"create schema if not exists "{schema}""#)))
        .execute(&mut *connection)
        .await
        .map_err(|error| failed(doing, error))?;
    let (found, known) = (schema_version(connection).await?, known_version());
    if found > known {
        return Err(too_new(found, known));
    }
    MIGRATOR.run_direct(None, connection, false).await.map_err(migration_failed)
}

/// The version of the schema; 0 where there is none.
async fn schema_version(connection: &mut PgConnection) -> StoreResult<i64> {
    let doing = "read the schema's version";
    let exists: bool = sqlx::query_scalar(include_str!("../queries/schema_exists.sql"))
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| failed(doing, error))?;
    if !exists {
        return Ok(0);
    }
    let version: Option<i64> = sqlx::query_scalar(include_str!("../queries/schema_version.sql"))
        .fetch_one(connection)
        .await
        .map_err(|error| failed(doing, error))?;
    Ok(version.unwrap_or(0))
}

fn too_new(found: i64, known: i64) -> StoreError {
    StoreError::new(
        StoreErrorKind::Permanent,
        format!("the schema is at version {found}, newer than this build, which knows {known}: use a newer build"),
    )
}
