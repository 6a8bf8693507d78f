//! Keeps the write-ahead log within a bound, and says what does not let it.
//!
//! SQLite moves the log into the database by itself, and then begins it anew; but not as long as any reader needs what is in
//! it. With a reader that never ends, or readers that never leave a gap, the log grows until the disk is full, and every
//! read becomes slower. So beyond the bound the writer asks, between two commits, for a checkpoint that holds new readers
//! off and waits a moment for those that are there.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tokio::time::Instant;

use crate::connect;
use crate::options::SqliteOptions;
use crate::reads::Reads;

/// How long after a checkpoint that a reader held up the next one is tried: each may hold commits up for a moment.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often it is said that a reader holds the log up.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The bound on the log of one database.
pub(crate) struct Checkpoints {
    options: SqliteOptions,
    log: PathBuf,
    /// Named if one of them holds the log up.
    reads: Reads,
    /// A connection of its own, because it does not wait as long as the writer's. Opened when it is needed first.
    connection: Option<SqliteConnection>,
    not_before: Instant,
    said: Option<Instant>,
}

/// What a checkpoint says: whether a reader held it up, the pages of the log, and those that are in the database.
type Answer = (i64, i64, i64);

impl Checkpoints {
    /// For the database of a file; in memory there is no log.
    pub(crate) fn of(options: &SqliteOptions, reads: Reads) -> Option<Self> {
        let mut log = options.file.as_ref()?.as_os_str().to_owned();
        log.push("-wal");
        let options = options.clone();
        Some(Self { options, log: log.into(), reads, connection: None, not_before: Instant::now(), said: None })
    }

    /// Cuts the log if it is beyond the bound.
    pub(crate) async fn keep(&mut self) {
        let bytes = self.bytes();
        if bytes <= self.options.log_bytes || Instant::now() < self.not_before {
            return;
        }
        match self.checkpoint().await {
            Ok((0, ..)) => {
                if self.said.take().is_some() {
                    tracing::info!(database = self.options.location(), "the write-ahead log is within its bound again");
                }
            }
            Ok(_) => {
                self.not_before = Instant::now() + AGAIN_AFTER;
                self.say(bytes);
            }
            Err(error) => {
                self.not_before = Instant::now() + AGAIN_AFTER;
                self.connection = None;
                tracing::warn!(database = self.options.location(), %error, "the write-ahead log cannot be cut");
            }
        }
    }

    /// Ends the connection, if there is one.
    pub(crate) async fn close(self) {
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "a connection to SQLite was not closed cleanly");
        }
    }

    async fn checkpoint(&mut self) -> sqlx::Result<Answer> {
        if self.connection.is_none() {
            self.connection = Some(connect::checkpoints(&self.options).await?);
        }
        let Some(connection) = self.connection.as_mut() else { return Err(sqlx::Error::PoolClosed) };
        sqlx::query_as(include_str!("../queries/store_checkpoint.sql")).fetch_one(connection).await
    }

    fn say(&mut self, bytes: u64) {
        if self.said.is_some_and(|said| said.elapsed() < SAY_EVERY) {
            return;
        }
        self.said = Some(Instant::now());
        let holder = match self.reads.oldest() {
            Some((kind, lasted)) => format!("`{kind}` of this process, for {:.1} s", lasted.as_secs_f32()),
            None => "none of this process: a shell, a backup or another program has the database open".to_owned(),
        };
        tracing::warn!(
            database = self.options.location(),
            bytes,
            "the write-ahead log grows, because a reader needs what is in it: {holder}"
        );
    }

    fn bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }
}
