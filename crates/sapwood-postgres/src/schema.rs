//! The schema: making it, and refusing one that this build cannot work with.
//!
//! A schema fits if it was made by exactly the migrations of this build. `_sqlx_migrations` has the version and
//! the checksum of each that was applied. Until the first release migrations are edited in place, so equal versions
//! alone prove nothing.

use std::sync::LazyLock;
use std::time::Duration;

use sapwood_core::store::{AppliedMigration, SchemaFit, StoreError, StoreResult};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;

use crate::connect::Connector;
use crate::error::{failed, permanent, unanswered};
use crate::store::PostgresStore;

/// Longer than a migration of large tables takes, and not for ever.
const MIGRATE_WITHIN: Duration = Duration::from_secs(3_600);

/// Without a lock of its own, which would belong to the session: the transaction around it has one.
static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("../../migrations/postgres");
    migrator.set_locking(false);
    migrator
});

impl PostgresStore {
    /// Makes the schema, or brings it up to this build's version. Several may call this at once; one does it.
    ///
    /// # Errors
    /// Those of connecting; permanent if the schema is newer than this build or was made by another set of migrations,
    /// or if the user lacks the permission.
    pub async fn migrate(&self) -> StoreResult<()> {
        let mut connection = self.connector.open_first("migrate").await?;
        let migrating = timeout(MIGRATE_WITHIN, migrate(&self.connector, &mut connection));
        migrating.await.map_err(|_| unanswered("migrate the schema"))??;
        self.read_settings().await
    }

    /// Whether the schema is the one that this build makes.
    ///
    /// # Errors
    /// Permanent if it is not: older or newer, with both versions, or made by another set of migrations. Those of
    /// connecting.
    pub async fn schema_check(&self) -> StoreResult<()> {
        let mut connection = self.connector.open_first("check").await?;
        let schema = &self.connector.schema;
        let applied = timeout(self.connector.answer_within, applied(&self.connector, &mut connection));
        match fit(&applied.await.map_err(|_| unanswered("read the schema's version"))??) {
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

/// One transaction: another process sees the schema whole or not at all, and the lock ends with it.
async fn migrate(connector: &Connector, connection: &mut PgConnection) -> StoreResult<()> {
    let (schema, doing) = (&connector.schema, "create the schema");
    let failed = |error| failed(doing, error);
    let mut transaction = connection.begin().await.map_err(failed)?;
    let lock = sqlx::query(include_str!("../queries/schema_lock.sql")).bind(schema);
    lock.execute(&mut *transaction).await.map_err(failed)?;
    let find = sqlx::query_scalar(include_str!("../queries/schema_find.sql")).bind(schema);
    let is_there: bool = find.fetch_one(&mut *transaction).await.map_err(failed)?;
    // `if not exists` would ask for the right to create it even if it is there.
    if !is_there {
        // A parameter cannot name a schema. The name was checked when the options were read: it has no quotes.
        let create = sqlx::query(AssertSqlSafe(format!(r#"create schema "{schema}""#)));
        create.execute(&mut *transaction).await.map_err(|error| not_created(connector, error))?;
    }
    match fit(&applied(connector, &mut transaction).await?) {
        SchemaFit::Exact => {}
        SchemaFit::Older(_) => {
            MIGRATOR.run_direct(None, &mut *transaction, false).await.map_err(|error| not_migrated(connector, error))?
        }
        SchemaFit::Newer(found) => return Err(too_new(schema, found)),
        SchemaFit::OtherSet(first) => return Err(other_set(schema, first)),
    }
    transaction.commit().await.map_err(failed)
}

/// The migrations that made the schema, in order; none if there is no schema.
async fn applied(connector: &Connector, connection: &mut PgConnection) -> StoreResult<Vec<AppliedMigration>> {
    let doing = "read the schema's version";
    let exists: bool = sqlx::query_scalar(connector.sql(include_str!("../queries/schema_exists.sql")))
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| not_used(connector, doing, error))?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_as(connector.sql(include_str!("../queries/schema_read.sql")))
        .fetch_all(connection)
        .await
        .map_err(|error| not_used(connector, doing, error))
}

/// Names the right that the user lacks to create the schema.
fn not_created(connector: &Connector, error: sqlx::Error) -> StoreError {
    if !lacks_a_right(&error) {
        return failed("create the schema", error);
    }
    let (schema, user, database) = (&connector.schema, connector.user(), connector.database());
    permanent(format!(
        "there is no schema {schema}, and the user {user} may not create it: `grant create on database \"{database}\" to \
         \"{user}\"`, or create it for this user, `create schema \"{schema}\" authorization \"{user}\"`"
    ))
    .caused_by(error)
}

/// Names the rights that the user lacks in the schema.
fn not_used(connector: &Connector, doing: &str, error: sqlx::Error) -> StoreError {
    if !lacks_a_right(&error) {
        return failed(doing, error);
    }
    let (schema, user) = (&connector.schema, connector.user());
    permanent(format!(
        "the user {user} lacks a right to {doing}: `grant usage, create on schema \"{schema}\" to \"{user}\"` lets it \
         create tables; those that another user made, that one has to grant"
    ))
    .caused_by(error)
}

fn not_migrated(connector: &Connector, error: MigrateError) -> StoreError {
    let doing = "migrate the schema";
    match error {
        MigrateError::Execute(error) => not_used(connector, doing, error),
        MigrateError::ExecuteMigration(error, number) => {
            not_used(connector, &format!("apply migration {number}"), error)
        }
        other => permanent(format!("cannot {doing}")).caused_by(other),
    }
}

fn lacks_a_right(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|state| state == "42501")
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
