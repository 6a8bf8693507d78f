//! Connections and their settings.

use std::path::Path;
use std::time::Duration;

use sapwood_core::store::{StoreError, StoreResult};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};

use crate::error::{classify, permanent};
use crate::options::SqliteOptions;

/// How long a statement waits for the lock of a stranger (a backup, a shell). The store's own connections never block
/// each other.
const BUSY: Duration = Duration::from_secs(5);

/// Prepared statements per connection: all there are, with those of many rows in four sizes each.
const STATEMENTS: usize = 256;

/// Pages of the write-ahead log after which it is moved into the database: 16 MiB. A checkpoint costs two fsyncs
/// within a commit; at SQLite's default of 1,000 pages a busy store meets one every few batches.
const CHECKPOINT_PAGES: &str = "4000";

/// The size to which the write-ahead log is cut after a checkpoint: 64 MiB, so that the log of a burst does not keep
/// its space for ever, and a usual one is not cut and extended all the time.
const LOG_BYTES: &str = "67108864";

/// The page cache of the writer: 32 MiB (a negative number counts KiB), which holds the inner pages of large tables.
const CACHE: &str = "-32768";

/// Rows that a connection's thread may read ahead of the task that takes them; more than most statements return.
const ROWS_AHEAD: usize = 256;

/// Opens the writer's connection; creates the file if it is not there.
pub(crate) async fn writer(options: &SqliteOptions) -> StoreResult<SqliteConnection> {
    let connect = match &options.file {
        Some(file) => durable(file),
        None => SqliteConnectOptions::new(),
    };
    let connect = connect
        // No table of the engine has any, but an author's may.
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .statement_cache_capacity(STATEMENTS)
        .pragma("temp_store", "memory")
        .pragma("cache_size", CACHE)
        .row_buffer_size(ROWS_AHEAD)
        .thread_name(|_| "sqlite-writer".to_owned())
        .disable_statement_logging();
    connect.connect().await.map_err(|error| not_opened(options, error))
}

/// How long a checkpoint waits for readers, and the writer for it.
const CHECKPOINT_WITHIN: Duration = Duration::from_millis(100);

/// A connection for checkpoints of a file that is there.
pub(crate) async fn checkpoints(options: &SqliteOptions) -> sqlx::Result<SqliteConnection> {
    let file = options.file.as_deref().unwrap_or_else(|| Path::new(""));
    let connect = SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(CHECKPOINT_WITHIN)
        .thread_name(|_| "sqlite-checkpoint".to_owned())
        .disable_statement_logging();
    connect.connect().await
}

/// The readers of a file, at most so many.
pub(crate) fn readers(file: &Path, limit: u32) -> SqlitePool {
    let connect = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .foreign_keys(false)
        .busy_timeout(BUSY)
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(ROWS_AHEAD)
        .thread_name(|id| format!("sqlite-reader-{id}"))
        .disable_statement_logging();
    // A read-only connection is sound as long as its thread lives, and testing it first would double each read.
    SqlitePoolOptions::new().max_connections(limit).test_before_acquire(false).connect_lazy_with(connect)
}

/// Makes the directory of a database.
pub(crate) fn make_directory(file: &Path) -> StoreResult<()> {
    let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(directory).map_err(|error| {
        permanent(format!("cannot create the directory {} of the SQLite database", directory.display()))
            .caused_by(error)
    })
}

/// How durable a commit is, as the database says.
pub(crate) async fn durability(connection: &mut SqliteConnection) -> StoreResult<Vec<(String, String)>> {
    let (journal_mode, synchronous): (String, i64) =
        sqlx::query_as(include_str!("../queries/store_describe.sql")).fetch_one(connection).await.map_err(classify)?;
    let synchronous = match synchronous {
        0 => "off",
        1 => "normal",
        2 => "full",
        _ => "extra",
    };
    Ok(vec![("journal_mode".to_owned(), journal_mode), ("synchronous".to_owned(), synchronous.to_owned())])
}

fn durable(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_BYTES)
}

fn not_opened(options: &SqliteOptions, error: sqlx::Error) -> StoreError {
    let cause = classify(error);
    StoreError::new(cause.kind(), format!("cannot open the SQLite database {}", options.location())).caused_by(cause)
}
