//! Whether a process of this machine has ended: each that has workers holds a lock by its id, which the system takes from
//! it at its end.
//!
//! The lock is on an empty file in [`DIRECTORY`], which is the memory of one running system. The system releases it when
//! the last thread has closed the process's files, after which none of them runs again, however the process ended; and not
//! while the process stands still, or its memory is written out. The file stays. So the file with its lock free is what is
//! left of a process that was here and has ended, and everything else, no file above all, proves nothing.
//!
//! The system's own list of processes was rejected, with boot, namespace, number and start time as the identity of one:
//!
//! - A machine that was cloned while it ran has the boot id, the namespaces and the numbers of the other. Each would bury
//!   all workers of the other at once. The file of a worker is on the machine on which it joined, and on no other.
//! - A process whose first thread has ended is listed as a zombie while its other threads run.
//! - The start time is shown to a reader in another time namespace with the difference between the two. With `hidepid` or
//!   for another user a process is not shown at all.
//! - A container that is started again is in a new namespace, from which the old number says nothing. The containers of one
//!   pod share their memory.
//!
//! Two processes have one lock only where a machine is cloned together with its workers. Those are two processes with one
//! worker's id, which nothing here or elsewhere makes safe. A process that was checkpointed to go on elsewhere has ended
//! here, and may be buried like one that stood still.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sapwood_core::ProcessId;

/// Where POSIX keeps shared memory on Linux. Every user may write there, and a container or a pod has one of its own.
const DIRECTORY: &str = "/dev/shm";

const PREFIX: &str = "sapwood-";
const SUFFIX: &str = ".lock";

/// How many starts find a free lock before the file is removed. The first may be those of all processes of this machine,
/// which ended together and are started again together, and each may have to see the files of all.
const FOUND_MOST: u64 = 100;

/// The process that this is, from its first worker to its end; `None` if others of its machine could not find out that it
/// has ended.
pub(crate) fn own(fresh: impl FnOnce() -> ProcessId) -> Option<ProcessId> {
    static OWN: OnceLock<Option<(ProcessId, File)>> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let (process, directory) = (fresh(), Path::new(DIRECTORY));
        tidy_up(directory);
        let file = take(directory, process).inspect_err(|error| {
            tracing::debug!("a restart will wait for the lease: no lock in {DIRECTORY}: {error}");
        });
        Some((process, file.ok()?)).filter(|(_, file)| is_in_memory(file))
    });
    own.as_ref().map(|(process, _)| *process)
}

/// Whether it is proved that a process of this machine has ended.
pub(crate) fn has_ended(process: ProcessId) -> bool {
    look(Path::new(DIRECTORY), process).proves_the_end()
}

/// What is seen of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    /// No file.
    Missing,
    /// A file that is no memory of the running system.
    Elsewhere,
    /// A file that does not tell.
    Unreadable,
    /// Its lock is held.
    Held,
    /// Its lock is free.
    Free,
}

impl Trace {
    /// Whether it proves that the process has ended. A wrong yes is worse than any wrong no: a living worker would be
    /// buried, and its steps in flight run twice. After a wrong no its lease decides.
    const fn proves_the_end(self) -> bool {
        match self {
            // It is of another machine, a clone of this one included; of a container with a memory of its own; or its file
            // was removed, as some systems do when a user logs out.
            Self::Missing => false,
            // What is on a disk may be a copy, or be shared with a machine whose locks are not seen here.
            Self::Elsewhere => false,
            // It is another user's, or the system refuses what has to be asked.
            Self::Unreadable => false,
            // It lives: at work, stopped, or on its way to its end. It may be this process itself, also if the engine that
            // is asked after was killed: what it began may still run.
            Self::Held => false,
            // It was here, and none of its threads runs. A child that it forked and that runs no other program would still
            // hold the lock.
            Self::Free => true,
        }
    }
}

fn look(directory: &Path, process: ProcessId) -> Trace {
    match File::open(path(directory, process)) {
        Ok(file) if is_in_memory(&file) => lock_of(&file),
        Ok(_) => Trace::Elsewhere,
        Err(error) if error.kind() == ErrorKind::NotFound => Trace::Missing,
        Err(_) => Trace::Unreadable,
    }
}

/// Asks for a lock that several may have, so that two who look do not take each other for the process.
fn lock_of(file: &File) -> Trace {
    match file.try_lock_shared() {
        Ok(()) => Trace::Free,
        Err(TryLockError::WouldBlock) => Trace::Held,
        Err(TryLockError::Error(_)) => Trace::Unreadable,
    }
}

/// Takes the lock of a process. The file has its name only once it is locked, so none is ever seen before.
fn take(directory: &Path, process: ProcessId) -> std::io::Result<File> {
    let path = path(directory, process);
    let unnamed = path.with_extension("new");
    let file = options().create_new(true).open(&unnamed)?;
    let named = file.try_lock().map_err(std::io::Error::from).and_then(|()| std::fs::rename(&unnamed, &path));
    if named.is_err() {
        // What stays is an empty file.
        let _ = std::fs::remove_file(&unnamed);
    }
    named.map(|()| file)
}

/// Removes the files of processes that ended long ago. Nothing waits for this and nothing depends on it, so what fails is
/// left to a later start.
fn tidy_up(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_ours(path)) {
        let Ok(mut file) = options().open(&path) else { continue };
        if lock_of(&file) != Trace::Free {
            continue;
        }
        // A byte for each start that found it: no clock is asked, and none has to be right.
        if file.metadata().is_ok_and(|found| found.len() >= FOUND_MOST) {
            let _ = std::fs::remove_file(&path);
        } else {
            let _ = file.write_all(b".");
        }
    }
}

/// For the process's own user alone, whatever its mask: who cannot open the file has no proof.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn path(directory: &Path, process: ProcessId) -> PathBuf {
    directory.join(format!("{PREFIX}{process}{SUFFIX}"))
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Whether a file is in the memory of the running system.
#[cfg(target_os = "linux")]
fn is_in_memory(file: &File) -> bool {
    /// A `tmpfs`, as `statfs` names it.
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    rustix::fs::fstatfs(file).is_ok_and(|system| system.f_type == TMPFS)
}

/// Elsewhere nothing is proved, and every restart waits for the lease.
#[cfg(not(target_os = "linux"))]
fn is_in_memory(_file: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// A directory of a test's own, on whatever the system keeps temporary files.
    struct Directory(PathBuf);

    impl Directory {
        fn fresh(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sapwood-process-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).expect("a directory is made");
            Self(path)
        }

        fn files(&self) -> usize {
            std::fs::read_dir(&self.0).expect("a directory").count()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn process(n: u128) -> ProcessId {
        ProcessId(Uuid::from_u128(n))
    }

    /// C1, C2: a worker is buried before its lease is over only if nothing of its process can run.
    #[test]
    fn only_a_free_lock_in_memory_proves_that_a_process_has_ended() {
        let table = [
            (Trace::Missing, false),
            (Trace::Elsewhere, false),
            (Trace::Unreadable, false),
            (Trace::Held, false),
            (Trace::Free, true),
        ];
        for (trace, proves) in table {
            assert_eq!(trace.proves_the_end(), proves, "{trace:?}");
        }
    }

    #[test]
    fn a_lock_is_held_until_its_file_is_closed_and_free_to_all_who_look_afterwards() {
        let directory = Directory::fresh("held");
        let held = take(&directory.0, process(1)).expect("it is taken");
        let file = || File::open(path(&directory.0, process(1))).expect("the file has its name");
        assert_eq!(lock_of(&file()), Trace::Held);
        drop(held);
        let (one, two) = (file(), file());
        assert_eq!((lock_of(&one), lock_of(&two)), (Trace::Free, Trace::Free), "two look at once");
        assert_eq!(directory.files(), 1, "nothing else is left");
        take(&directory.0, process(2)).expect("another is not in its way");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_look_tells_who_lives_from_who_has_ended_and_from_who_was_never_here() {
        let memory = Path::new(DIRECTORY);
        // Of this test alone: no process has these ids, which are chosen at random elsewhere.
        let [here, gone] = [0, 1].map(|n| process(u128::from(std::process::id()) << 1 | n));
        assert_eq!(look(memory, gone), Trace::Missing);
        drop(take(memory, gone).expect("it is taken"));
        let seen = look(memory, gone);
        std::fs::remove_file(path(memory, gone)).expect("the file is removed");
        assert_eq!(seen, Trace::Free);
        let own = own(|| here).expect("this process has a lock");
        assert_eq!(look(memory, own), Trace::Held);
        std::fs::remove_file(path(memory, own)).expect("the file is removed");
        assert_eq!(look(memory, own), Trace::Missing);
        assert!(!is_in_memory(&File::open("/proc/version").expect("Linux has it")));
    }

    /// A lock that is held is never in the way, and no machine fills up with what processes leave behind.
    #[test]
    fn what_an_ended_process_left_is_removed_after_many_starts_and_what_a_living_one_has_never() {
        let directory = Directory::fresh("left");
        let _held = take(&directory.0, process(1)).expect("it is taken");
        drop(take(&directory.0, process(2)).expect("it is taken"));
        std::fs::write(directory.0.join("another.lock"), "").expect("a file of another program");
        for start in 0..FOUND_MOST {
            assert_eq!(directory.files(), 3, "after {start} starts");
            tidy_up(&directory.0);
        }
        tidy_up(&directory.0);
        assert_eq!(directory.files(), 2);
        assert!(path(&directory.0, process(1)).exists());
        assert!(!path(&directory.0, process(2)).exists());
    }
}
