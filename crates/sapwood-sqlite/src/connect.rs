//! Connections and their settings.

use std::path::Path;
use std::time::Duration;

use sapwood_core::store::{StoreError, StoreResult};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Row, SqliteConnection, SqlitePool};

use crate::error::{classify, permanent};
use crate::options::SqliteOptions;

/// How long a statement waits for a foreign lock (a backup, a shell); our own connections never block each other.
const BUSY: Duration = Duration::from_secs(5);

/// Statements of many rows are kept in four sizes each.
const STATEMENTS: usize = 256;

/// Pages of the write-ahead log after which it is moved into the database: 16 MiB. A checkpoint costs two fsyncs
/// within a commit; at SQLite's 1,000 pages a busy store meets one every few batches.
const CHECKPOINT_PAGES: &str = "4000";

/// Opens the writer's connection; creates the file where it is not there.
pub(crate) async fn writer(options: &SqliteOptions) -> StoreResult<SqliteConnection> {
    let connect = match &options.file {
        Some(file) => durable(file),
        None => SqliteConnectOptions::new(),
    };
    let connect = connect
        .foreign_keys(false)
        .busy_timeout(BUSY)
        .statement_cache_capacity(STATEMENTS)
        .pragma("temp_store", "memory")
        .pragma("cache_size", "-32768")
        .row_buffer_size(256)
        .thread_name(|_| "sqlite-writer".to_owned())
        .disable_statement_logging();
    connect.connect().await.map_err(|error| not_opened(options, error))
}

/// The readers of a file.
pub(crate) fn readers(file: &Path, most: u32) -> SqlitePool {
    let connect = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .foreign_keys(false)
        .busy_timeout(BUSY)
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(256)
        .thread_name(|id| format!("sqlite-reader-{id}"))
        .disable_statement_logging();
    // A read-only connection is sound as long as its thread lives; asking first would double each read.
    SqlitePoolOptions::new().max_connections(most).test_before_acquire(false).connect_lazy_with(connect)
}

/// Makes the directory of a database.
pub(crate) fn make_directory(file: &Path) -> StoreResult<()> {
    let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(directory).map_err(|error| {
        permanent(format!("cannot create the directory {} of the SQLite database", directory.display()))
            .caused_by(error)
    })
}

/// What the database says of its durability.
pub(crate) async fn durability(connection: &mut SqliteConnection) -> StoreResult<Vec<(String, String)>> {
    let journal = sqlx::query("pragma journal_mode").fetch_one(&mut *connection).await.map_err(classify)?;
    let synchronous = sqlx::query("pragma synchronous").fetch_one(&mut *connection).await.map_err(classify)?;
    let synchronous = match synchronous.try_get::<i64, _>(0).map_err(classify)? {
        0 => "off",
        1 => "normal",
        2 => "full",
        _ => "extra",
    };
    Ok(vec![
        ("journal_mode".to_owned(), journal.try_get(0).map_err(classify)?),
        ("synchronous".to_owned(), synchronous.to_owned()),
    ])
}

fn durable(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", "67108864")
}

fn not_opened(options: &SqliteOptions, error: sqlx::Error) -> StoreError {
    let cause = classify(error);
    StoreError::new(cause.kind(), format!("cannot open the SQLite database {}", options.place())).caused_by(cause)
}
