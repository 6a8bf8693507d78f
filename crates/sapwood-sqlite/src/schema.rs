//! Migrations, and whether a database and this build fit together.

use async_trait::async_trait;
use sapwood_core::store::StoreResult;
use sqlx::SqliteConnection;
use sqlx::migrate::{MigrateError, Migrator};

use crate::args::Args;
use crate::db::Db;
use crate::error::{classify, permanent};
use crate::fields::Fields;
use crate::work::Work;

/// The schema this build works with.
static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// Lanes of the outbox, as `0006_outbox.sql` creates them.
pub(crate) const LANES: u16 = 16;

/// Brings a database up to this build's schema.
pub(crate) async fn migrate(connection: &mut SqliteConnection) -> StoreResult<()> {
    let found = version(&mut Db::new(&mut *connection, jiff::Timestamp::UNIX_EPOCH)).await?;
    refuse_newer(found)?;
    MIGRATIONS.run(connection).await.map_err(|error| match error {
        MigrateError::Execute(error) => classify(error),
        error => permanent("cannot migrate the SQLite database").caused_by(error),
    })
}

/// The newest migration of this build.
pub(crate) fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Asks whether the database has this build's schema.
pub(crate) struct SchemaCheck;

#[async_trait]
impl Work for SchemaCheck {
    type Answer = ();

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<()> {
        let found = version(db).await?;
        refuse_newer(found)?;
        if found < newest() {
            return Err(permanent(format!(
                "the SQLite database has schema {found}, this build needs {}; migrate it first",
                newest()
            )));
        }
        Ok(())
    }
}

/// Declares dead all who worked on this database before: the lock on its file proves that no process of theirs lives.
pub(crate) struct BuryAll;

#[async_trait]
impl Work for BuryAll {
    type Answer = ();

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<()> {
        let found = version(db).await?;
        // 6 has the last table these statements name. A newer schema is refused elsewhere and left alone here.
        if found < 6 || found > newest() {
            return Ok(());
        }
        db.run(include_str!("../queries/worker_bury_all.sql"), Args::of(0)).await?;
        db.run(include_str!("../queries/fence_close.sql"), Args::of(0)).await?;
        db.run(include_str!("../queries/worker_thin.sql"), Args::of(0)).await?;
        db.run(include_str!("../queries/fence_thin.sql"), Args::of(0)).await?;
        Ok(())
    }
}

async fn version(db: &mut Db<'_>) -> StoreResult<i64> {
    if db.one(include_str!("../queries/schema_exists.sql"), Args::of(0)).await?.is_none() {
        return Ok(0);
    }
    match db.one(include_str!("../queries/schema_version.sql"), Args::of(0)).await? {
        Some(row) => Fields::of(&row).int(),
        None => Ok(0),
    }
}

fn refuse_newer(found: i64) -> StoreResult<()> {
    if found > newest() {
        return Err(permanent(format!(
            "the SQLite database has schema {found}, newer than {}, the newest this build knows; use a newer build",
            newest()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_schema_is_refused_with_both_numbers() {
        let error = refuse_newer(newest() + 1).expect_err("newer");
        assert!(error.to_string().contains(&format!("schema {}, newer than {}", newest() + 1, newest())), "{error}");
        assert!(refuse_newer(newest()).is_ok());
    }

    #[test]
    fn migrations_are_numbered_without_gaps() {
        let versions: Vec<_> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..=newest()).collect::<Vec<_>>());
    }
}
