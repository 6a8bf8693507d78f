//! Processor time and memory of this process, and, read from Linux's `/proc`, of the PostgreSQL server behind a connection.

use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sqlx::PgConnection;

/// Ticks of `/proc/*/stat` per second; Linux has always reported 100 to programs.
const TICKS: f64 = 100.0;

/// The time of this process, in user and in system mode, of all its threads so far.
pub(crate) fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Time that was spent is not negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The bytes of this process that are in memory, by Linux's `/proc`; 0 where there is none.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or_default() * 1_024
}

/// A PostgreSQL server on this machine, named by its first process: the parent of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Postmaster(u32);

impl Postmaster {
    /// The server that answers `connection`; `None` if its processes cannot be seen here, because it runs on another
    /// machine or in a container.
    pub(crate) async fn of(connection: &mut PgConnection) -> sqlx::Result<Option<Self>> {
        let (backend, port): (i32, Option<i32>) =
            sqlx::query_as("select pg_backend_pid(), inet_client_port()").fetch_one(connection).await?;
        let backend = backend.to_string();
        // The process number alone is not enough, because another process may have it on this machine. A backend's
        // title names its client.
        let command = std::fs::read(Path::new("/proc").join(&backend).join("cmdline")).unwrap_or_default();
        let is_its_backend = serves(&String::from_utf8_lossy(&command), port);
        Ok(read(&backend).filter(|_| is_its_backend).map(|process| Self(process.parent)))
    }

    /// The time of the server so far: of its first process, of the live ones that this started, and of those that have ended.
    /// `None` if the server itself has ended.
    pub(crate) fn time(self) -> Option<Duration> {
        loop {
            let before = self.process()?;
            let ticks = before.own + before.waited_for + ticks_of_children(self.0, &all());
            // If a process ended in between, it was counted twice or not at all, because it moved from one sum to the
            // other.
            if self.process()?.waited_for == before.waited_for {
                return Some(time(ticks));
            }
        }
    }

    fn process(self) -> Option<Process> {
        read(&self.0.to_string())
    }
}

/// Whether a command line is the title of the PostgreSQL backend that serves this port of its client; a client on
/// a Unix socket has none.
fn serves(command: &str, port: Option<i32>) -> bool {
    let client = port.map_or_else(|| " [local]".to_owned(), |port| format!("({port})"));
    command.starts_with("postgres: ") && command.contains(&client)
}

/// The ticks of the live children of a process, and of those that the children have waited for.
fn ticks_of_children(parent: u32, processes: &[Process]) -> u64 {
    let children = processes.iter().filter(|process| process.parent == parent);
    children.map(|child| child.own + child.waited_for).sum()
}

/// What `/proc/PID/stat` says of a process. A child that has ended and was not waited for yet still has such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: u32,
    /// Ticks in user and system mode.
    own: u64,
    /// The same of children that have ended and were waited for, and of theirs.
    waited_for: u64,
}

impl Process {
    /// Reads the line. The second field is a name in brackets, which may hold spaces and brackets itself.
    fn parse(stat: &str) -> Option<Self> {
        let (_, behind_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = behind_name.split_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(number(1)?).ok()?,
            own: number(11)? + number(12)?,
            waited_for: number(13)? + number(14)?,
        })
    }
}

fn read(process: &str) -> Option<Process> {
    Process::parse(&std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).ok()?)
}

fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter_map(|name| read(&name)).collect()
}

fn time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / TICKS)
}

#[cfg(test)]
mod tests {
    use super::{Process, serves, ticks_of_children};

    fn process(parent: u32, own: u64, waited_for: u64) -> Process {
        Process { parent, own, waited_for }
    }

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let stat = "41 (odd) name (x)) S 7 41 41 0 -1 4194560 170 0 0 0 3 4 50 60 20 0 1 0 9 1 2";
        assert_eq!(Process::parse(stat), Some(process(7, 7, 110)));
        assert_eq!(Process::parse("41 (cut"), None);
        assert_eq!(Process::parse("41 (cut) S 7"), None);
    }

    #[test]
    fn only_children_of_the_server_are_counted() {
        let processes = [process(7, 1, 10), process(8, 100, 1_000), process(7, 2, 0), process(1, 500, 0)];
        assert_eq!(ticks_of_children(7, &processes), 13);
        assert_eq!(ticks_of_children(9, &processes), 0);
    }

    #[test]
    fn a_backend_is_known_by_its_client() {
        let title = "postgres: sapwood postgres 127.0.0.1(43560) idle\0\0\0";
        assert!(serves(title, Some(43_560)));
        assert!(!serves(title, Some(3_560)) && !serves(title, None));
        assert!(serves("postgres: main: sapwood postgres [local] SELECT", None));
        assert!(!serves("/usr/bin/other\0(43560)", Some(43_560)), "another program with the same number");
    }
}
