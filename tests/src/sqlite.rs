//! A database file of its own for each test, in a directory of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use uuid::Uuid;

/// A directory with a database, removed at the end of the test, also of one that fails.
#[derive(Debug)]
pub struct TestFile {
    directory: PathBuf,
}

impl TestFile {
    /// A place that is not used. The file itself comes with the first opening.
    ///
    /// # Panics
    /// If the system's directory for temporary files cannot be written to.
    #[must_use]
    pub fn fresh() -> Self {
        let directory = std::env::temp_dir().join(format!("sapwood-test-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&directory).expect("a directory is made");
        Self { directory }
    }

    /// The database.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join("store.db")
    }

    /// The directory, for whatever else the test writes.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A connection of the test itself, beside the store's.
    ///
    /// # Panics
    /// If there is no database yet.
    pub async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path()).busy_timeout(Duration::from_secs(10));
        options.connect().await.expect("the database opens")
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        // What cannot be removed is in the directory for temporary files anyway.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
