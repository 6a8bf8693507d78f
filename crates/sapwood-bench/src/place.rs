//! The store to measure, in a place of its own, and its clock, which can be moved.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sapwood_core::clock::Clock;
use sapwood_core::store::Store;
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_sqlite::{SqliteOptions, SqliteStore};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::Result;
use crate::processes::Postmaster;

/// The name of the schema, and the start of the directory's name.
const NAME: &str = "sapwood_bench";

/// Places of this process so far: each directory has a name of its own.
static PLACES: AtomicU32 = AtomicU32::new(0);

/// The store to measure, and how to remove it.
pub(crate) struct Place {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<JumpingClock>,
    /// Of PostgreSQL, if it is the store.
    pub(crate) url: Option<String>,
    /// Of the SQLite files, if they are the store.
    pub(crate) directory: Option<PathBuf>,
}

impl Place {
    /// An empty store: in a schema of the database of this URL, or on SQLite in a temporary directory.
    pub(crate) async fn open(url: Option<&str>) -> Result<Self> {
        let clock = Arc::<JumpingClock>::default();
        if let Some(url) = url {
            drop_schema(url).await?;
            let store = PostgresStore::connect(PostgresOptions::new(url.to_owned(), NAME)).await?;
            store.migrate().await?;
            return Ok(Self { store: Arc::new(store), clock, url: Some(url.to_owned()), directory: None });
        }
        let place = PLACES.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("{NAME}_{}_{place}", std::process::id()));
        let options = SqliteOptions::file(directory.join("bench.db")).clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let store = SqliteStore::open(options).await?;
        store.migrate().await?;
        Ok(Self { store: Arc::new(store), clock, url: None, directory: Some(directory) })
    }

    pub(crate) async fn connect(&self) -> Result<Option<PgConnection>> {
        Ok(match &self.url {
            Some(url) => Some(PgConnection::connect(url).await?),
            None => None,
        })
    }

    /// Prints a line if the database's time cannot be measured.
    pub(crate) async fn tell_what_is_not_measured(&self) -> Result<()> {
        if let Some(mut connection) = self.connect().await?
            && Postmaster::of(&mut connection).await?.is_none()
        {
            println!("the database's time is not measured: its processes cannot be seen on this machine");
        }
        Ok(())
    }

    /// Makes the clock of this process and of the database jump forward.
    pub(crate) async fn advance(&self, by: Duration) -> Result<()> {
        self.clock.advance(by);
        let Some(mut connection) = self.connect().await? else { return Ok(()) };
        let ahead = self.clock.ahead_us.load(Ordering::SeqCst);
        let sql = format!(
            "create or replace function {NAME}.sapwood_now() returns timestamptz language sql volatile parallel safe \
             as $$ select clock_timestamp() + {ahead} * interval '1 microsecond' $$"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(())
    }

    pub(crate) async fn remove(self) -> Result<()> {
        self.store.close().await;
        if let Some(url) = self.url {
            drop_schema(&url).await?;
        }
        if let Some(directory) = self.directory {
            std::fs::remove_dir_all(directory)?;
        }
        Ok(())
    }
}

async fn drop_schema(url: &str) -> Result<()> {
    let sql = format!("set client_min_messages = warning; drop schema if exists {NAME} cascade");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut PgConnection::connect(url).await?).await?;
    Ok(())
}

/// The machine's clock, which jumps forward when it is told: what sleeps for an hour is not waited for.
#[derive(Default)]
pub(crate) struct JumpingClock {
    ahead_us: AtomicI64,
}

impl JumpingClock {
    fn advance(&self, by: Duration) {
        // A jump of more than 292,000 years is none that this program makes.
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.ahead_us.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_micros(self.ahead_us.load(Ordering::SeqCst))
    }
}
