//! One store for a test, on either database, with a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::clock::Clock;
use sapwood_core::store::Store;
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_sqlite::{SqliteOptions, SqliteStore};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::clock::ManualClock;
use crate::postgres::TestSchema;
use crate::sqlite::TestFile;

/// A migrated, empty store in a place of its own, which is removed when this is dropped.
pub struct TestStore {
    // Before the place: its connections are closed before the place is removed.
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    place: Place,
}

enum Place {
    Postgres(TestSchema),
    Sqlite(TestFile),
}

impl TestStore {
    /// A store on the PostgreSQL that the environment names.
    ///
    /// # Panics
    /// Where it cannot be reached.
    pub async fn postgres() -> Self {
        let schema = TestSchema::fresh();
        let store = postgres_store(&schema).await;
        store.migrate().await.expect("the schema is migrated");
        schema.replace_clock().await;
        Self { store: Arc::new(store), clock: Arc::new(ManualClock::new()), place: Place::Postgres(schema) }
    }

    /// A store on SQLite, in a file.
    ///
    /// # Panics
    /// Where the file cannot be made.
    pub async fn sqlite() -> Self {
        let file = TestFile::fresh();
        let clock = Arc::new(ManualClock::new());
        let options = SqliteOptions::file(file.path()).clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let store = SqliteStore::open(options).await.expect("the store opens");
        store.migrate().await.expect("the file is migrated");
        Self { store: Arc::new(store), clock, place: Place::Sqlite(file) }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The store as another process has it. SQLite has one process at a time; there it is the same store.
    ///
    /// # Panics
    /// Where PostgreSQL cannot be reached.
    pub async fn another(&self) -> Arc<dyn Store> {
        match &self.place {
            Place::Postgres(schema) => Arc::new(postgres_store(schema).await),
            Place::Sqlite(_) => self.store(),
        }
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
    /// Where the database refuses it.
    pub async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self.place {
            Place::Postgres(schema) => {
                schema.connect().await.execute(sql).await.expect("PostgreSQL runs it");
            }
            Place::Sqlite(file) => {
                file.connect().await.execute(sql).await.expect("SQLite runs it");
            }
        }
    }

    /// The schema, where the store is on PostgreSQL.
    #[must_use]
    pub fn schema(&self) -> Option<&TestSchema> {
        match &self.place {
            Place::Postgres(schema) => Some(schema),
            Place::Sqlite(_) => None,
        }
    }

    /// The file, where the store is on SQLite.
    #[must_use]
    pub fn file(&self) -> Option<&TestFile> {
        match &self.place {
            Place::Postgres(_) => None,
            Place::Sqlite(file) => Some(file),
        }
    }
}

async fn postgres_store(schema: &TestSchema) -> PostgresStore {
    let options = PostgresOptions::new(schema.url(), schema.name());
    PostgresStore::connect(options).await.expect("PostgreSQL answers")
}

/// Runs each case of a module on both stores, as `postgres::CASE` and `sqlite::CASE`.
///
/// A case is `pub async fn case(test: &TestStore)`. Use it once within a module, for it makes modules of these two
/// names:
///
/// ```text
/// mod claim {
///     sapwood_tests::on_both_stores!(sapwood_tests::conformance::store::claim { a_claim_is_bounded });
/// }
/// ```
#[macro_export]
macro_rules! on_both_stores {
    ($($module:ident)::+ { $($cases:tt)* }) => {
        mod postgres {
            $crate::on_one_store!(
                postgres
                #[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
                $($module)::+ { $($cases)* }
            );
        }
        mod sqlite {
            $crate::on_one_store!(sqlite #[allow(unused_attributes)] $($module)::+ { $($cases)* });
        }
    };
}

/// One half of [`on_both_stores!`].
#[doc(hidden)]
#[macro_export]
macro_rules! on_one_store {
    ($kind:ident #[$attribute:meta] $($module:ident)::+ { $($case:ident),* $(,)? }) => {
        use $($module)::+ as cases;
        $crate::on_one_store!(@each $kind #[$attribute] $($case)*);
    };
    (@each $kind:ident #[$attribute:meta]) => {};
    (@each $kind:ident #[$attribute:meta] $case:ident $($rest:ident)*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[$attribute]
        async fn $case() {
            let test = $crate::store::TestStore::$kind().await;
            cases::$case(&test).await;
            test.store().close().await;
        }
        $crate::on_one_store!(@each $kind #[$attribute] $($rest)*);
    };
}
