//! The place in which a run of the example keeps its data, read from beside it with SQL of the test's own.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use sapwood_tests::kafka::kafka_url;
use sapwood_tests::postgres::TestDatabase;
use sapwood_tests::sqlite::TestFile;
use sapwood_tests::wait::until_asked;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, FromRow};
use uuid::Uuid;

use super::kafka::Kafka;

/// How often the database is asked whether others use it.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// A directory for the run, and with services its database and its turn on Kafka.
pub(super) struct Place {
    directory: TestFile,
    services: Option<(TestDatabase, Kafka)>,
}

/// A query in the words of both schemas.
pub(super) struct Query {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

impl Place {
    /// On SQLite, with the stores' own logs.
    pub(super) fn sqlite() -> Self {
        Self { directory: TestFile::fresh(), services: None }
    }

    /// On PostgreSQL and Kafka.
    pub(super) async fn services() -> Self {
        let services = (TestDatabase::create().await, Kafka::turn().await);
        Self { directory: TestFile::fresh(), services: Some(services) }
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.directory()
    }

    pub(super) fn kafka(&self) -> &Kafka {
        let (_, kafka) = self.services.as_ref().expect("a place with services");
        kafka
    }

    /// The settings of a process that runs here.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let services = self.services.iter();
        let settings =
            services.flat_map(|(database, _)| [("SAPWOOD_STORE", database.url()), ("SAPWOOD_BROKER", kafka_url())]);
        settings.collect()
    }

    /// Returns once the database is left alone. What a process sent before it was killed PostgreSQL still carries out.
    pub(super) async fn is_quiet(&self) {
        let Some((database, _)) = &self.services else { return };
        let mut connection = PgConnection::connect(&database.url()).await.expect("PostgreSQL answers");
        let others = "select count(*) from pg_stat_activity
                      where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
        let is_quiet = async || {
            let others: i64 = sqlx::query_scalar(others).fetch_one(&mut connection).await.expect("counted");
            if others == 0 { Ok(()) } else { Err(others) }
        };
        until_asked("a database that is left alone", ASK_EVERY, is_quiet).await;
    }

    /// What a context's store says to a query.
    pub(super) async fn rows<R>(&self, context: &str, query: &Query) -> Vec<R>
    where
        R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        if let Some((database, _)) = &self.services {
            let mut connection = PgConnection::connect(&database.url()).await.expect("PostgreSQL answers");
            let path = format!("set search_path to {context}");
            connection.execute(AssertSqlSafe(path)).await.expect("the search path is set");
            return sqlx::query_as(query.postgres).fetch_all(&mut connection).await.expect("PostgreSQL reads it");
        }
        let file = self.directory().join(".sapwood").join(format!("{context}.db"));
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut connection = options.connect().await.expect("the database opens");
        sqlx::query_as(query.sqlite).fetch_all(&mut connection).await.expect("SQLite reads it")
    }

    /// Source and id of every event that orders published.
    pub(super) async fn events(&self) -> BTreeSet<String> {
        let query = Query {
            sqlite: "select source || ' ' || event_id from outbox",
            postgres: "select source || ' ' || event_id from outbox",
        };
        self.rows::<(String,)>("orders", &query).await.into_iter().map(|(event,)| event).collect()
    }

    /// The events that a context's group took in, each with its tree.
    pub(super) async fn taken_in(&self, context: &str) -> Vec<(String, Uuid)> {
        let query = Query {
            sqlite: "select key, tree_id from start_key where scope like 'group:%'",
            postgres: "select key, tree_id from start_key where scope like 'group:%'",
        };
        self.rows(context, &query).await
    }

    /// Roots of a function in a context's store.
    pub(super) async fn trees(&self, context: &str, function: &str) -> Vec<Uuid> {
        let query = Query { sqlite: "select id, function from tree", postgres: "select id, function from tree" };
        let trees = self.rows::<(Uuid, String)>(context, &query).await.into_iter();
        trees.filter(|(_, of)| of == function).map(|(tree, _)| tree).collect()
    }
}
