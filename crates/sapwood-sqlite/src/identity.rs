//! Which file a database is: whether its path still leads to the file that is open.
//!
//! A file that was deleted or replaced stays writable for whoever has it open, so commits go on into what nobody will
//! find again. SQLite itself does not notice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};

/// The file that was at a path when it was opened.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    path: PathBuf,
    /// Device and inode; `None` if the system has no such thing.
    file: Option<(u64, u64)>,
    /// Whether a check has found another file since it was asked last. Clones share it.
    was_away: Arc<AtomicBool>,
}

impl Identity {
    /// The file that is at a path now: to be asked when it has just been opened.
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), file: device_and_inode(path), was_away: Arc::default() }
    }

    /// Whether the file has been away since this was asked last: what was opened meanwhile may be of another one.
    pub(crate) fn take_was_away(&self) -> bool {
        self.was_away.swap(false, Ordering::AcqRel)
    }

    /// Checks that the path still leads to that file.
    ///
    /// # Errors
    /// Of the connection if it does not, because the same file may come back: then all goes on, and what was committed
    /// meanwhile is in it.
    pub(crate) fn check(&self) -> StoreResult<()> {
        if self.file.is_none() || device_and_inode(&self.path) == self.file {
            return Ok(());
        }
        self.was_away.store(true, Ordering::Release);
        Err(StoreError::new(
            StoreErrorKind::Connection,
            format!(
                "the SQLite database {} was deleted or replaced while it was open: nothing more is acknowledged until \
                 the same file is back, or this process is started again on the one that is there",
                self.path.display()
            ),
        ))
    }
}

#[cfg(unix)]
fn device_and_inode(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn device_and_inode(_: &Path) -> Option<(u64, u64)> {
    None
}
