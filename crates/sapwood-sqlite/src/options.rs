//! Where a store is, and what it takes from its surroundings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sapwood_core::clock::{Clock, SystemClock};

/// Loads and reads of one process share them. Each has a thread of its own, and a read is short.
const READERS: u32 = 4;

/// The size of the write-ahead log beyond which it is cut: 64 MiB, four times what a store writes between two checkpoints.
const LOG_BYTES: u64 = 64 * 1024 * 1024;

/// How to open a store.
///
/// ```
/// use sapwood_sqlite::SqliteOptions;
///
/// let options = SqliteOptions::file("./.sapwood/orders.db");
/// ```
#[derive(Clone)]
pub struct SqliteOptions {
    /// None for a database in memory.
    pub(crate) file: Option<PathBuf>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Connections of readers; 0 in memory, where only the writer's connection sees the database.
    pub(crate) readers: u32,
    pub(crate) log_bytes: u64,
}

impl SqliteOptions {
    /// A database in a file, which is created together with its directory if it is not there.
    pub fn file(file: impl AsRef<Path>) -> Self {
        Self {
            file: Some(file.as_ref().to_owned()),
            clock: Arc::new(SystemClock),
            readers: READERS,
            log_bytes: LOG_BYTES,
        }
    }

    /// A database in memory, which lives as long as the store and its clones: for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self { file: None, clock: Arc::new(SystemClock), readers: 0, log_bytes: LOG_BYTES }
    }

    /// The clock that leases, claims and stamps are judged by; the machine's, unless told otherwise.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// At most so many connections for readers, beside the writer's; 4 unless told otherwise.
    #[must_use]
    pub fn readers(mut self, readers: u32) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// The size of the write-ahead log beyond which it is moved into the database and cut; 64 MiB unless told otherwise. A
    /// reader that keeps it from being cut is named in the log of the process.
    #[must_use]
    pub fn log_bytes(mut self, bytes: u64) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Where the database is, as messages name it.
    pub(crate) fn location(&self) -> String {
        self.file.as_ref().map_or_else(|| ":memory:".to_owned(), |file| file.display().to_string())
    }
}

impl std::fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteOptions").field("location", &self.location()).field("readers", &self.readers).finish()
    }
}
