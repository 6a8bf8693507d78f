//! A schema or a database of its own for each test, on the PostgreSQL that the environment names.

use std::time::Duration;

use sapwood_postgres::PostgresOptions;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use uuid::Uuid;

use crate::wait::PATIENCE;

/// Names the server: `postgres://USER@HOST:PORT/DATABASE`.
pub const POSTGRES_URL: &str = "SAPWOOD_TEST_POSTGRES_URL";

/// The server's address.
///
/// # Panics
/// If the environment names none; tests that call this are ignored by then, see `build.rs`.
#[must_use]
pub fn postgres_url() -> String {
    std::env::var(POSTGRES_URL).unwrap_or_else(|_| panic!("{POSTGRES_URL} is not set; ./test sets it"))
}

/// A name for a schema, dropped with all that is in it at the end of the test, also of one that fails.
#[derive(Debug)]
pub struct TestSchema {
    url: String,
    /// Of a pooler before the server.
    pooler: Option<String>,
    name: String,
}

impl TestSchema {
    /// A name that is not used. The schema itself comes with the first migration.
    #[must_use]
    pub fn fresh() -> Self {
        Self::at(postgres_url())
    }

    /// A name that is not used, in the database at this address.
    #[must_use]
    pub fn at(url: String) -> Self {
        Self { url, pooler: None, name: format!("test_{}", Uuid::now_v7().simple()) }
    }

    /// A name that is not used, in a database that stores reach by a pooler of this address.
    #[must_use]
    pub fn behind(pooler: &str) -> Self {
        let mut schema = Self::fresh();
        schema.pooler = Some(pooler.to_owned());
        schema
    }

    /// How a store reaches it.
    #[must_use]
    pub fn options(&self) -> PostgresOptions {
        match &self.pooler {
            None => PostgresOptions::new(&self.url, &self.name),
            Some(pooler) => {
                PostgresOptions { direct_url: Some(self.url.clone()), ..PostgresOptions::new(pooler, &self.name) }
            }
        }
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The schema's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection of the test itself, in this schema.
    ///
    /// # Panics
    /// If the server cannot be reached.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.expect("PostgreSQL answers");
        let path = format!("set search_path to {}", self.name);
        connection.execute(AssertSqlSafe(path)).await.expect("the search path is set");
        connection
    }

    /// Replaces the schema's clock by one that a test moves with [`Self::set_clock_ahead`].
    ///
    /// # Panics
    /// If the schema is not migrated.
    pub async fn replace_clock(&self) {
        let schema = &self.name;
        let sql = format!(
            "create table {schema}.test_clock (ahead interval not null);
             insert into {schema}.test_clock values ('0');
             create or replace function {schema}.sapwood_now() returns timestamptz
                 language sql volatile parallel safe
                 as $$ select clock_timestamp() + ahead from {schema}.test_clock $$"
        );
        self.connect().await.execute(AssertSqlSafe(sql)).await.expect("the clock is replaced");
    }

    /// Sets the clock so far ahead of the server's.
    ///
    /// # Panics
    /// If [`Self::replace_clock`] was not called.
    pub async fn set_clock_ahead(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("less than 292,000 years");
        sqlx::query("update test_clock set ahead = $1 * interval '1 microsecond'")
            .bind(by)
            .execute(&mut self.connect().await)
            .await
            .expect("the clock is moved");
    }
}

impl Drop for TestSchema {
    fn drop(&mut self) {
        let name = &self.name;
        // A statement that a failed test left behind may hold locks; the server's end removes what stays.
        let sql = format!(
            "set lock_timeout = '10s'; set client_min_messages = warning; drop schema if exists {name} cascade"
        );
        execute_at_the_end(&self.url, &sql);
    }
}

/// A database, dropped with all that is in it at the end of the test, also of one that fails: for processes, whose
/// contexts name their schemas themselves.
#[derive(Debug)]
pub struct TestDatabase {
    server: String,
    name: String,
}

impl TestDatabase {
    /// A database of a name that is not used.
    ///
    /// # Panics
    /// If the server cannot be reached, or its user may create none.
    pub async fn create() -> Self {
        Self::create_with("").await
    }

    /// A database with these options of `create database`.
    ///
    /// # Panics
    /// As [`Self::create`].
    pub async fn create_with(options: &str) -> Self {
        let (server, name) = (postgres_url(), format!("test_{}", Uuid::now_v7().simple()));
        let mut connection = PgConnection::connect(&server).await.expect("PostgreSQL answers");
        let sql = format!("create database {name} {options}");
        connection.execute(AssertSqlSafe(sql)).await.expect("the database is made");
        Self { server, name }
    }

    /// Its address.
    ///
    /// # Panics
    /// If the server's address names no database.
    #[must_use]
    pub fn url(&self) -> String {
        let (host, _) = self.server.rsplit_once('/').expect("postgres://USER@HOST:PORT/DATABASE");
        format!("{host}/{}", self.name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        execute_at_the_end(&self.server, &format!("drop database if exists {} with (force)", self.name));
    }
}

/// A user of the server who owns nothing and is no superuser, dropped at the end of the test, also of one that fails.
#[derive(Debug)]
pub struct TestRole {
    server: String,
    name: String,
}

impl TestRole {
    /// A user who may do nothing but connect.
    ///
    /// # Panics
    /// If the server cannot be reached, or its user may create none.
    pub async fn create() -> Self {
        let role = Self { server: postgres_url(), name: format!("test_{}", Uuid::now_v7().simple()) };
        role.execute("create role {role} login").await;
        role
    }

    /// The address of a server, or of what stands before it, for this user.
    ///
    /// # Panics
    /// If the address names no user.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let (_, host) = url.rsplit_once('@').expect("postgres://USER@HOST:PORT/DATABASE");
        format!("postgres://{}@{host}", self.name)
    }

    /// Lets the user work in a schema, as the owner of its tables would.
    pub async fn may_work_in(&self, schema: &TestSchema) {
        let schema = schema.name();
        self.execute(&format!(
            "grant usage on schema {schema} to {{role}};
             grant all on all tables in schema {schema} to {{role}};
             grant all on all sequences in schema {schema} to {{role}}"
        ))
        .await;
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL on a connection of the server's own user; `{role}` in it is this one's name.
    ///
    /// # Panics
    /// If the server refuses it.
    pub async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.server).await.expect("PostgreSQL answers");
        let sql = sql.replace("{role}", &self.name);
        connection.execute(AssertSqlSafe(sql)).await.expect("PostgreSQL runs it");
    }
}

impl Drop for TestRole {
    fn drop(&mut self) {
        let name = &self.name;
        let sql = format!("drop owned by {name} cascade; drop role {name}");
        execute_at_the_end(&self.server, &sql);
    }
}

/// Runs SQL within a `drop`, in which the test's own runtime cannot wait; not for ever, because what a test left behind may
/// hold the locks that are needed.
fn execute_at_the_end(url: &str, sql: &str) {
    let executing = async {
        let mut connection = PgConnection::connect(url).await?;
        connection.execute(AssertSqlSafe(sql.to_owned())).await?;
        connection.close().await
    };
    let execute = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let in_time = async { tokio::time::timeout(PATIENCE, executing).await };
        runtime.block_on(in_time).map_err(std::io::Error::other)?.map_err(std::io::Error::other)
    };
    let executed = std::thread::scope(|scope| scope.spawn(execute).join());
    if let Err(error) = executed.unwrap_or_else(|_| Err(std::io::Error::other("it panicked"))) {
        eprintln!("this was not done at the end of a test: {sql}: {error}");
    }
}
