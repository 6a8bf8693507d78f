//! The lock beside the database: one process at a time, as the operating system says.
//!
//! The lock ends with its process, so its holder knows that no other process works on this file and takes all trees
//! over at once. It is on a file beside the database, because SQLite's own locks on the database are released when any
//! handle of it is closed. The file stays when the lock is released: between a removal and the next creation two
//! processes could hold a lock each.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};

/// How long to wait for the lock: a store that this process dropped a moment ago, or a process that was just told to
/// stop, releases it within this time.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between two attempts, because the operating system does not report that a lock was released.
const PAUSE: Duration = Duration::from_millis(10);

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock of `database`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Permanent`] if another process, or another store of this one, holds it.
    pub(crate) async fn take(database: &Path) -> StoreResult<Self> {
        let path = beside(database);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(|error| {
            StoreError::new(StoreErrorKind::Permanent, format!("cannot open the lock file {}", path.display()))
                .caused_by(error)
        })?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::WouldBlock) => return Err(taken(database, &path)),
                Err(TryLockError::Error(error)) => {
                    let message = format!("cannot lock {}", path.display());
                    return Err(StoreError::new(StoreErrorKind::Permanent, message).caused_by(error));
                }
            }
        }
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn taken(database: &Path, lock: &Path) -> StoreError {
    let message = format!(
        "the SQLite database {} is in use by another process (lock file {}); one process at a time can open it, \
         several need PostgreSQL",
        database.display(),
        lock.display()
    );
    StoreError::new(StoreErrorKind::Permanent, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_names_the_path() {
        let error = taken(Path::new("a/orders.db"), &beside(Path::new("a/orders.db")));
        assert_eq!(error.kind(), StoreErrorKind::Permanent);
        assert!(error.to_string().contains("database a/orders.db is in use by another process"), "{error}");
        assert!(error.to_string().contains("a/orders.db.lock"), "{error}");
    }
}
