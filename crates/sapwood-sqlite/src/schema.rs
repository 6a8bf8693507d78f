//! The schema: making it, and refusing one that this build cannot work with.
//!
//! A schema fits if it was made by exactly the migrations of this build. `_sqlx_migrations` has the version and
//! the checksum of each that was applied. Until the first release migrations are edited in place, so equal versions
//! alone prove nothing.

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::store::{AppliedMigration, SchemaFit, StoreError, StoreResult};
use sqlx::SqliteConnection;
use sqlx::migrate::{MigrateError, Migrator};

use crate::args::Args;
use crate::db::Db;
use crate::error::{classify, permanent};
use crate::fields::Fields;
use crate::work::Work;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// The lanes that the migrations make, for a database that has no schema yet. One that has says it itself.
pub(crate) const LANES: u16 = 16;

/// Makes the schema, or brings it up to this build's; returns how many lanes it has.
pub(crate) async fn migrate(connection: &mut SqliteConnection, location: &str, now: Timestamp) -> StoreResult<u16> {
    match fit(&applied(&mut Db::new(&mut *connection, now)).await?) {
        SchemaFit::Exact => lanes(&mut Db::new(connection, now)).await,
        SchemaFit::Older(_) => {
            MIGRATOR.run(&mut *connection).await.map_err(|error| match error {
                MigrateError::Execute(error) => classify(error),
                error => permanent("cannot migrate the SQLite database").caused_by(error),
            })?;
            let mut db = Db::new(connection, now);
            // The opening could not do it, because it does not know older schemas; and with an older schema no worker
            // can have joined since.
            bury_all(&mut db).await?;
            lanes(&mut db).await
        }
        SchemaFit::Newer(found) => Err(too_new(location, found)),
        SchemaFit::OtherSet(first) => Err(other_set(location, first)),
    }
}

/// Asks whether the database has this build's schema; gives how many lanes it has.
pub(crate) struct SchemaCheck {
    /// The database, for the message of a refusal.
    pub(crate) location: String,
}

#[async_trait]
impl Work for SchemaCheck {
    type Answer = u16;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<u16> {
        let location = &self.location;
        match fit(&applied(db).await?) {
            SchemaFit::Exact => lanes(db).await,
            SchemaFit::Older(found) => Err(permanent(format!(
                "the SQLite database {location} is at version {found}, this build needs {}: run the `migrate` command",
                newest()
            ))),
            SchemaFit::Newer(found) => Err(too_new(location, found)),
            SchemaFit::OtherSet(first) => Err(other_set(location, first)),
        }
    }
}

/// Takes a database over at an opening: declares dead all workers that were registered before, because the lock on the
/// file proves that no process of any of them lives. Gives how many lanes it has; none if the schema is not this
/// build's, which is then left alone.
pub(crate) struct TakeOver;

#[async_trait]
impl Work for TakeOver {
    type Answer = Option<u16>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Option<u16>> {
        if fit(&applied(db).await?) != SchemaFit::Exact {
            return Ok(None);
        }
        bury_all(db).await?;
        lanes(db).await.map(Some)
    }
}

async fn bury_all(db: &mut Db<'_>) -> StoreResult<()> {
    let now = db.now;
    db.run(include_str!("../queries/worker_bury_all.sql"), Args::of(1).time(now)).await?;
    db.run(include_str!("../queries/fence_close.sql"), Args::of(0)).await?;
    db.run(include_str!("../queries/worker_thin.sql"), Args::of(0)).await?;
    db.run(include_str!("../queries/fence_thin.sql"), Args::of(0)).await?;
    Ok(())
}

/// What was fixed when the schema was created.
async fn lanes(db: &mut Db<'_>) -> StoreResult<u16> {
    let row = db.one(include_str!("../queries/store_setting_read.sql"), Args::of(0)).await?;
    let row = row.ok_or_else(|| permanent("the SQLite database has no settings"))?;
    Fields::of(&row).number()
}

fn fit(applied: &[AppliedMigration]) -> SchemaFit {
    SchemaFit::of(MIGRATOR.iter().map(|migration| (migration.version, &migration.checksum[..])), applied)
}

/// The version of this build's newest migration.
fn newest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The migrations that made the database, in order; none if it has no schema.
async fn applied(db: &mut Db<'_>) -> StoreResult<Vec<AppliedMigration>> {
    if db.one(include_str!("../queries/schema_exists.sql"), Args::of(0)).await?.is_none() {
        return Ok(Vec::new());
    }
    let found = db.all(include_str!("../queries/schema_read.sql"), Args::of(0)).await?;
    found
        .iter()
        .map(|row| {
            let mut fields = Fields::of(row);
            Ok((fields.int()?, fields.blob()?.to_vec()))
        })
        .collect()
}

fn too_new(location: &str, found: i64) -> StoreError {
    permanent(format!(
        "the SQLite database {location} is at version {found}, newer than this build, which knows {}: use a newer \
         build",
        newest()
    ))
}

fn other_set(location: &str, first: i64) -> StoreError {
    permanent(format!(
        "the SQLite database {location} was made by another set of migrations than this build's (they differ from \
         version {first} on). Before the first release no path leads from one set to another: delete the file and let \
         it be created anew"
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
