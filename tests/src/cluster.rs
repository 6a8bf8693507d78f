//! PostgreSQL servers of a test's own, a primary and its standby, for what a test may not do to the server of all.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use uuid::Uuid;

use crate::wait::until_asked;

/// Names the directory of PostgreSQL's programs.
pub const POSTGRES_BIN: &str = "SAPWOOD_TEST_POSTGRES_BIN";

/// How often a server is asked.
const LOOK: Duration = Duration::from_millis(20);

/// A server, ended and removed with the test.
#[derive(Debug)]
pub struct Server {
    port: u16,
    directory: PathBuf,
    process: Child,
}

impl Server {
    /// A server with an empty database, from which standbys can be made.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn primary() -> Self {
        let directory = directory();
        let mut initialize = program("initdb", &directory);
        initialize.args(["--no-sync", "-A", "trust", "-U", "sapwood", "-E", "UTF8", "--locale=C", "-D", "data"]);
        succeeds(&mut initialize);
        Self::start(directory).await
    }

    /// A standby that follows this server, with its data as it is now.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn standby(&self) -> Self {
        let directory = directory();
        let mut copy = program("pg_basebackup", &directory);
        copy.args(["--no-sync", "--checkpoint=fast", "--write-recovery-conf", "-U", "sapwood", "-h", "127.0.0.1"]);
        succeeds(copy.args(["-p", &self.port.to_string(), "-D", "data"]));
        Self::start(directory).await
    }

    async fn start(directory: PathBuf) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a free port").port();
        let process = run(&directory, port);
        let mut server = Self { port, directory, process };
        server.answers().await;
        server
    }

    /// Returns once it answers.
    async fn answers(&mut self) {
        let url = self.url();
        let answers = async || {
            let ended = self.process.try_wait().expect("it is a child");
            assert!(ended.is_none(), "PostgreSQL has ended: {}", self.log());
            PgConnection::connect(&url).await.map(drop).map_err(|error| error.to_string())
        };
        until_asked("a PostgreSQL that answers", LOOK, answers).await;
    }

    /// Ends it as `pg_ctl restart -m immediate` does, all of its processes at once and nothing written, and starts it again
    /// on the same port. Returns once it answers.
    ///
    /// # Panics
    /// If it does not end, or does not start.
    pub async fn restart(&mut self) {
        let quit = format!("kill -QUIT {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &quit]).status().expect("the system has a shell");
        assert!(sent.success(), "{quit}: {sent}");
        self.process.wait().expect("it is a child");
        self.process = run(&self.directory, self.port);
        self.answers().await;
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its address, as stores are given it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://sapwood@{}/postgres", self.address())
    }

    /// Runs SQL, statement by statement.
    ///
    /// # Panics
    /// If it refuses it.
    pub async fn execute(&self, sql: &[&str]) {
        let mut connection = PgConnection::connect(&self.url()).await.expect("PostgreSQL answers");
        for sql in sql {
            connection.execute(AssertSqlSafe((*sql).to_owned())).await.expect("PostgreSQL runs it");
        }
    }

    /// Waits until a condition holds, in SQL.
    ///
    /// # Panics
    /// If it never does.
    pub async fn until(&self, condition: &str) {
        let mut connection = PgConnection::connect(&self.url()).await.expect("PostgreSQL answers");
        let is_so = async || {
            let query = AssertSqlSafe(format!("select coalesce(({condition}), false)"));
            let is_so: bool = sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("PostgreSQL answers");
            if is_so { Ok(()) } else { Err(()) }
        };
        until_asked(condition, LOOK, is_so).await;
    }

    /// Kills it, as a machine does that loses its power.
    pub fn kill(&mut self) {
        // It fails if the server has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // What cannot be removed is in the directory for temporary files anyway.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Runs a server on the data in a directory.
fn run(directory: &Path, port: u16) -> Child {
    let mut postgres = program("postgres", directory);
    postgres.args(["-D", "data", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
    postgres.args(["-c", &format!("port={port}"), "-c", "shared_buffers=32MB"]);
    // A standby that is asked something, such as to become the primary, answers, however far behind it is then.
    // Once its primary is gone it replays what it has written already, for which the other delay holds.
    postgres.args(["-c", "max_standby_streaming_delay=-1", "-c", "max_standby_archive_delay=-1"]);
    postgres.spawn().expect("PostgreSQL starts")
}

/// A directory that the server's user may write to.
fn directory() -> PathBuf {
    let directory = std::env::temp_dir().join(format!("sapwood-server-{}", Uuid::now_v7().simple()));
    std::fs::create_dir_all(&directory).expect("a directory is made");
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    if let Some((user, group)) = plain_user() {
        std::os::unix::fs::chown(&directory, Some(user), Some(group)).expect("it is given away");
    }
    directory
}

/// A program of PostgreSQL that works in a directory and writes to the log there.
fn program(name: &str, directory: &Path) -> Command {
    let programs = std::env::var(POSTGRES_BIN).unwrap_or_else(|_| panic!("{POSTGRES_BIN} is not set; ./test sets it"));
    let mut program = Command::new(Path::new(&programs).join(name));
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("log")).expect("a log");
    let errors = log.try_clone().expect("a log");
    program.current_dir(directory).stdin(Stdio::null()).stdout(log).stderr(errors);
    if let Some((user, group)) = plain_user() {
        program.uid(user).gid(group);
    }
    program
}

fn succeeds(program: &mut Command) {
    let status = program.status().expect("it starts");
    let log = program.get_current_dir().map(|directory| std::fs::read_to_string(directory.join("log")));
    assert!(status.success(), "{program:?}: {log:?}");
}

/// The user and group for PostgreSQL, which refuses to run as root.
fn plain_user() -> Option<(u32, u32)> {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0).then(|| {
        let id = |what: &str| {
            let id = Command::new("id").args([what, "nobody"]).output().expect("id runs").stdout;
            String::from_utf8_lossy(&id).trim().parse().expect("there is a user nobody")
        };
        (id("-u"), id("-g"))
    })
}
