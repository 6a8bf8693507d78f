//! Transactional steps: what a function writes in its context's database, and that the step has ended, are one commit.

/// Runs each case of a module, which is generic in what its functions need, on both databases.
macro_rules! on_each_database {
    ($($module:ident)::+ { $($case:ident,)* }) => {
        mod each {
            use sapwood_tests::engine::World;
            use sapwood_tests::store::Database;

            use crate::engine::transactions::{on_postgres, on_sqlite};

            $(pub(super) async fn $case(world: &World) {
                match world.store().database() {
                    Database::Postgres => super::$case::<on_postgres::Of>(world).await,
                    Database::Sqlite => super::$case::<on_sqlite::Of>(world).await,
                    Database::Memory => panic!("it has no SQL"),
                }
            })*
        }
        sapwood_tests::on_both_engines!($($module)::+::each { $($case,)* });
    };
}
use on_each_database;

mod cases;
mod misuses;

use std::sync::Arc;

use sapwood::Transactional;
use sapwood::prelude::*;
use sapwood_core::store::Database as Kind;
use sapwood_engine::Function;
use sapwood_tests::engine::World;
use sapwood_tests::probe::{Probe, Probing};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

/// Why a function that writes fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub(crate) enum LedgerError {
    /// The function says so.
    #[error("{what} is refused")]
    Refused {
        /// What is.
        what: String,
    },
    /// Trying again may help.
    #[error("{what} is busy")]
    #[retry]
    Busy {
        /// What is.
        what: String,
    },
    /// The database says so.
    #[error("the database: {says}")]
    Database {
        /// Its words.
        says: String,
    },
    /// A call ended, or a step timed out.
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database { says: error.to_string() }
    }
}

/// A connection that runs the SQL of these tests.
pub(crate) trait Sql: Send {
    fn run(&mut self, sql: String) -> impl Future<Output = sqlx::Result<u64>> + Send;
    /// Runs one in a transaction within, which is committed, and the other in one that is dropped.
    fn nest(&mut self, committed: String, dropped: String) -> impl Future<Output = sqlx::Result<()>> + Send;
    /// Begins a transaction within, and forgets it.
    fn leave_open(&mut self) -> impl Future<Output = sqlx::Result<()>> + Send;
}

macro_rules! sql {
    ($connection:ty) => {
        impl Sql for $connection {
            async fn run(&mut self, sql: String) -> sqlx::Result<u64> {
                self.execute(AssertSqlSafe(sql)).await.map(|done| done.rows_affected())
            }

            async fn nest(&mut self, committed: String, dropped: String) -> sqlx::Result<()> {
                let mut within = self.begin().await?;
                within.execute(AssertSqlSafe(committed)).await?;
                within.commit().await?;
                let mut within = self.begin().await?;
                within.execute(AssertSqlSafe(dropped)).await?;
                Ok(())
            }

            async fn leave_open(&mut self) -> sqlx::Result<()> {
                self.begin().await.map(std::mem::forget)
            }
        }
    };
}
sql!(PgConnection);
sql!(SqliteConnection);

/// What the functions of one kind of database need.
pub(crate) trait Ledger: Transactional<Database: Kind<Error = sqlx::Error, Connection: Sql>> {
    /// Makes one entry, as a text says.
    type Writes: Function<Output = i64, Error = LedgerError, Dependencies = Self>;
    /// Makes entries: one after another, beside each other, and below it.
    type Works: Function<Output = String, Error = LedgerError, Dependencies = Self>;

    fn of(probe: Arc<Probe>, ledger: String) -> Arc<Self>;
    fn probe(&self) -> &Arc<Probe>;
    /// The table, with its schema.
    fn ledger(&self) -> &str;
    fn writes(how: &str) -> Call<Self::Writes>;
    fn works() -> Call<Self::Works>;
}

/// The dependencies and the functions of one kind of database.
macro_rules! ledger {
    ($module:ident, $database:ty, $writes:literal, $works:literal, $leg:literal) => {
        pub(crate) mod $module {
            use super::*;

            /// What its functions need.
            pub(crate) struct Of {
                probe: Arc<Probe>,
                ledger: String,
            }

            impl sapwood::Dependencies for Of {
                type Context = Probing;
                const DATABASE: Option<&'static str> = Some(<$database as Kind>::KIND);
            }

            impl Transactional for Of {
                type Database = $database;
            }

            #[sapwood::function(name = $writes, retry(attempts = 1))]
            pub(crate) async fn writes(cx: &mut Cx<Of>, how: String) -> Result<i64, LedgerError> {
                super::write(cx, &how).await
            }

            #[sapwood::function(name = $works)]
            pub(crate) async fn works(cx: &mut Cx<Of>) -> Result<String, LedgerError> {
                let first = super::enter(cx, "first").await?;
                let (a, b) = (cx.call(leg("a".to_owned())), cx.call(leg("b".to_owned())));
                let (c, d) = (super::entering(cx, "c"), super::entering(cx, "d"));
                let step = cx.step("beside", async || Ok::<_, LedgerError>(1));
                let (a, b, c, d, step) = tokio::join!(a, b, c, d, step);
                let last = super::enter(cx, "last").await?;
                Ok(format!("{first} {} {} {} {} {} {last}", a?, b?, c?, d?, step?))
            }

            #[sapwood::function(name = $leg)]
            async fn leg(cx: &mut Cx<Of>, name: String) -> Result<i64, LedgerError> {
                let probe = Arc::clone(&cx.dependencies().probe);
                cx.step("before", async || Ok::<_, LedgerError>(())).await?;
                let entered = super::enter(cx, &name).await?;
                cx.step("after", async || Ok::<_, LedgerError>(probe.mark(format!("{name} after")))).await?;
                Ok(entered)
            }

            impl Ledger for Of {
                type Writes = writes;
                type Works = works;

                fn of(probe: Arc<Probe>, ledger: String) -> Arc<Self> {
                    Arc::new(Self { probe, ledger })
                }

                fn probe(&self) -> &Arc<Probe> {
                    &self.probe
                }

                fn ledger(&self) -> &str {
                    &self.ledger
                }

                fn writes(how: &str) -> Call<writes> {
                    writes(how.to_owned())
                }

                fn works() -> Call<works> {
                    works()
                }
            }
        }
    };
}

ledger!(on_postgres, sapwood::Postgres, "pg_writes", "pg_works", "pg_leg");
ledger!(on_sqlite, sapwood::Sqlite, "lite_writes", "lite_works", "lite_leg");

/// Makes an entry of this name, which must not be there.
async fn insert(tx: &mut impl Sql, ledger: &str, entry: &str) -> sqlx::Result<()> {
    tx.run(format!("insert into {ledger} (entry, below) values ('{entry}', null)")).await.map(drop)
}

/// A transactional step that makes an entry.
fn entering<D: Ledger>(cx: &mut Cx<D>, entry: &str) -> impl Future<Output = Result<i64, LedgerError>> + use<D> {
    let (app, entry) = (cx.dependencies(), entry.to_owned());
    let name = format!("enter {entry}");
    cx.transaction(&name, move |mut tx| {
        let (app, entry) = (Arc::clone(&app), entry.clone());
        async move {
            app.probe().mark(format!("{entry} ran"));
            insert(&mut *tx, app.ledger(), &entry).await?;
            Ok(1)
        }
    })
}

async fn enter<D: Ledger>(cx: &mut Cx<D>, entry: &str) -> Result<i64, LedgerError> {
    entering(cx, entry).await
}

/// One transactional step, which goes as `how` says.
async fn write<D: Ledger>(cx: &mut Cx<D>, how: &str) -> Result<i64, LedgerError> {
    let app = cx.dependencies();
    let written = cx.transaction("write", async |mut tx| {
        app.probe().mark("ran");
        insert(&mut *tx, app.ledger(), how).await?;
        misuses::go_on(tx, &app, how).await?;
        Ok(7)
    });
    let within = std::time::Duration::from_millis(if how == "takes too long" { 20 } else { 30_000 });
    written.retry(super::quick(3)).timeout(within).await
}

/// The table of a test, and the dependencies that know it.
async fn ledger_of<L: Ledger>(world: &World) -> Arc<L> {
    let ledger =
        world.store().schema().map_or_else(|| "ledger".to_owned(), |schema| format!("\"{}\".ledger", schema.name()));
    let create = format!(
        "create table {ledger} (entry text primary key, below text references {ledger} (entry) deferrable initially deferred)"
    );
    world.store().execute(&create).await;
    L::of(Probe::new(), ledger)
}

/// The entries of a name.
async fn entries<L: Ledger>(world: &World, app: &L, entry: &str) -> i64 {
    world.store().count(&format!("{} where entry = '{entry}'", app.ledger())).await
}
