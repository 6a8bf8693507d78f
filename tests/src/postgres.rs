//! A schema of its own for each test, on the PostgreSQL that the environment names.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use uuid::Uuid;

/// Names the server: `postgres://USER@HOST:PORT/DATABASE`.
pub const POSTGRES_URL: &str = "SAPWOOD_TEST_POSTGRES_URL";

/// The server's address.
///
/// # Panics
/// Where the environment names none; tests that call this are ignored by then, see `build.rs`.
#[must_use]
pub fn postgres_url() -> String {
    std::env::var(POSTGRES_URL).unwrap_or_else(|_| panic!("{POSTGRES_URL} is not set; ./test sets it"))
}

/// A name for a schema, dropped with all that is in it at the end of the test, also of one that fails.
#[derive(Debug)]
pub struct TestSchema {
    url: String,
    name: String,
}

impl TestSchema {
    /// A name nobody uses. The schema itself comes with the first migration.
    #[must_use]
    pub fn fresh() -> Self {
        Self { url: postgres_url(), name: format!("test_{}", Uuid::now_v7().simple()) }
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
    /// Where the server cannot be reached.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.expect("PostgreSQL answers");
        let path = format!("set search_path to {}", self.name);
        connection.execute(AssertSqlSafe(path)).await.expect("the search path is set");
        connection
    }

    /// Replaces the schema's clock by one that a test moves with [`Self::set_clock_ahead`].
    ///
    /// # Panics
    /// Where the schema is not migrated.
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
    /// Where [`Self::replace_clock`] was not called.
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
        let (url, name) = (self.url.clone(), self.name.clone());
        // The test's own runtime cannot wait within `drop`.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(schema_drop(&url, &name)).map_err(std::io::Error::other)
        });
        if let Err(error) = dropped.join().unwrap_or_else(|_| Err(std::io::Error::other("it panicked"))) {
            eprintln!("schema {} was not dropped: {error}", self.name);
        }
    }
}

async fn schema_drop(url: &str, name: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    // A statement that a failed test left behind may hold locks; the server's end removes what stays.
    let sql =
        format!("set lock_timeout = '10s'; set client_min_messages = warning; drop schema if exists {name} cascade");
    connection.execute(AssertSqlSafe(sql)).await?;
    connection.close().await
}
