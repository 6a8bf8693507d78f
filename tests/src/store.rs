//! One store for a test, on either database or in memory, with a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::clock::Clock;
use sapwood_core::store::{OutboxRow, Store};
use sapwood_core::{TreeId, WorkerId};
use sapwood_memory::MemoryStore;
use sapwood_postgres::PostgresStore;
use sapwood_sqlite::{SqliteOptions, SqliteStore};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::changes::Changes;
use crate::clock::ManualClock;
use crate::front::telling;
use crate::postgres::TestSchema;
use crate::sqlite::TestFile;
use crate::wait::{in_time, within};

/// Longer than any test: no worker is declared dead because its machine is busy. Those that are, are by name.
pub const LEASE: Duration = Duration::from_secs(3_600);

/// A migrated, empty store in a place of its own, which is removed when this is dropped.
pub struct TestStore {
    // Before the place: its connections are closed before the place is removed.
    store: Arc<dyn Store>,
    changes: Changes,
    clock: Arc<ManualClock>,
    place: Place,
}

/// What a store is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// The PostgreSQL that the environment names.
    Postgres,
    /// SQLite, in a file.
    Sqlite,
    /// None: a store in memory.
    Memory,
}

enum Place {
    Postgres(TestSchema),
    Sqlite(TestFile),
    Memory(MemoryStore),
}

impl TestStore {
    /// A store on one of these.
    ///
    /// # Panics
    /// As [`Self::postgres`] and [`Self::sqlite`].
    pub async fn on(database: Database) -> Self {
        match database {
            Database::Postgres => Self::postgres().await,
            Database::Sqlite => Self::sqlite().await,
            Database::Memory => Self::memory(),
        }
    }

    /// A store on the PostgreSQL that the environment names.
    ///
    /// # Panics
    /// If it cannot be reached.
    pub async fn postgres() -> Self {
        Self::in_schema(TestSchema::fresh()).await
    }

    /// A store in a schema that is not used.
    ///
    /// # Panics
    /// If its server cannot be reached.
    pub async fn in_schema(schema: TestSchema) -> Self {
        let store = postgres_store(&schema).await;
        store.migrate().await.expect("the schema is migrated");
        schema.replace_clock().await;
        Self::telling(Arc::new(store), Arc::new(ManualClock::new()), Place::Postgres(schema))
    }

    /// A store on SQLite, in a file.
    ///
    /// # Panics
    /// If the file cannot be made.
    pub async fn sqlite() -> Self {
        let file = TestFile::fresh();
        let clock = Arc::new(ManualClock::new());
        let options = SqliteOptions::file(file.path()).clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let store = SqliteStore::open(options).await.expect("the store opens");
        store.migrate().await.expect("the file is migrated");
        Self::telling(Arc::new(store), clock, Place::Sqlite(file))
    }

    /// A store in memory.
    #[must_use]
    pub fn memory() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>);
        Self::telling(Arc::new(store.clone()), clock, Place::Memory(store))
    }

    fn telling(store: Arc<dyn Store>, clock: Arc<ManualClock>, place: Place) -> Self {
        let changes = Changes::default();
        Self { store: telling(store, &changes), changes, clock, place }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The store as another process has it. SQLite has one process at a time; there it is the same store.
    ///
    /// # Panics
    /// If PostgreSQL cannot be reached.
    pub async fn another(&self) -> Arc<dyn Store> {
        match &self.place {
            Place::Postgres(schema) => telling(Arc::new(postgres_store(schema).await), &self.changes),
            Place::Sqlite(_) => self.store(),
            Place::Memory(store) => telling(Arc::new(store.clone()), &self.changes),
        }
    }

    /// What it is on.
    #[must_use]
    pub fn database(&self) -> Database {
        match self.place {
            Place::Postgres(_) => Database::Postgres,
            Place::Sqlite(_) => Database::Sqlite,
            Place::Memory(_) => Database::Memory,
        }
    }

    /// What tells of every change of this store, by whichever process of the test.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The clock that the store judges by. Move it with [`Self::advance`].
    #[must_use]
    pub fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    /// Makes the clock of the test and of the database jump forward.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        if let Place::Postgres(schema) = &self.place {
            schema.set_clock_ahead(self.clock.offset()).await;
        }
    }

    /// Runs SQL of the test's own, on a connection of its own.
    ///
    /// # Panics
    /// If the database refuses it, or if there is none.
    pub async fn execute(&self, sql: &str) {
        let _tell = self.changes.tell_at_the_end();
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.place {
            Place::Postgres(schema) => {
                schema.connect().await.execute(sql).await.expect("PostgreSQL runs it");
            }
            Place::Sqlite(file) => {
                file.connect().await.execute(sql).await.expect("SQLite runs it");
            }
            Place::Memory(_) => panic!("{NO_SQL}"),
        }
    }

    /// A tree's id as SQL of the test's own names it.
    ///
    /// # Panics
    /// If there is no database.
    #[must_use]
    pub fn literal(&self, tree: TreeId) -> String {
        match self.place {
            Place::Postgres(_) => format!("'{tree}'"),
            Place::Sqlite(_) => format!("x'{}'", tree.uuid().simple()),
            Place::Memory(_) => panic!("{NO_SQL}"),
        }
    }

    /// How many rows SQL of the test's own selects.
    ///
    /// # Panics
    /// If the database refuses it, or if there is none.
    pub async fn count(&self, from_where: &str) -> i64 {
        let sql = AssertSqlSafe(format!("select count(*) from {from_where}"));
        match &self.place {
            Place::Postgres(schema) => sqlx::query_scalar(sql).fetch_one(&mut schema.connect().await).await,
            Place::Sqlite(file) => sqlx::query_scalar(sql).fetch_one(&mut file.connect().await).await,
            Place::Memory(_) => panic!("{NO_SQL}"),
        }
        .expect("the rows are counted")
    }

    /// The schema, if the store is on PostgreSQL.
    #[must_use]
    pub fn schema(&self) -> Option<&TestSchema> {
        match &self.place {
            Place::Postgres(schema) => Some(schema),
            Place::Sqlite(_) | Place::Memory(_) => None,
        }
    }

    /// The file, if the store is on SQLite.
    #[must_use]
    pub fn file(&self) -> Option<&TestFile> {
        match &self.place {
            Place::Postgres(_) | Place::Memory(_) => None,
            Place::Sqlite(file) => Some(file),
        }
    }
}

/// Why a test that has SQL of its own runs on the databases only.
const NO_SQL: &str = "a store in memory knows no SQL";

async fn postgres_store(schema: &TestSchema) -> PostgresStore {
    PostgresStore::connect(schema.options()).await.expect("PostgreSQL answers")
}

/// Every row of the outbox, lane by lane, in the order of the commits.
///
/// # Panics
/// If the store does not answer.
pub async fn outbox(store: &dyn Store) -> Vec<OutboxRow> {
    let mut rows = Vec::new();
    for lane in 0..store.info().lanes {
        rows.extend(store.outbox_read(lane, 0, 100_000).await.expect("a lane is read").rows);
    }
    rows
}

/// Runs a case on a store of its own.
pub async fn run(database: Database, case: impl AsyncFnOnce(&TestStore)) {
    let test = TestStore::on(database).await;
    in_time(case(&test)).await;
    within("the end of the store", test.store().close()).await;
}

/// Declares a worker dead on behalf of another. A renewal of it that is still on its way counts, so it is looked at anew
/// until it is dead.
///
/// # Panics
/// If the store does not answer.
pub async fn bury(store: &dyn Store, dead: WorkerId, by: WorkerId) {
    loop {
        let renewal = store.lease(by).renew(LEASE).await.expect("the watcher is alive");
        let Some(silent) = renewal.others.into_iter().find(|beat| beat.worker == dead) else { return };
        store.worker_bury(by, &[silent]).await.expect("the watcher is alive");
    }
}
