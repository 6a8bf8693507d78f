//! A pgbouncer of its own for a test, before the PostgreSQL that the environment names.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use uuid::Uuid;

use crate::postgres::postgres_url;
use crate::wait::until_asked;

/// Names a pgbouncer of 1.21 or newer.
pub const PGBOUNCER: &str = "SAPWOOD_TEST_PGBOUNCER";

/// The system's own pgbouncer, whatever its version.
#[must_use]
pub fn system_pgbouncer() -> &'static str {
    let debian = "/usr/sbin/pgbouncer";
    // It may not be in the path of a user.
    if std::path::Path::new(debian).exists() { debian } else { "pgbouncer" }
}

/// How often its port is tried.
const LOOK: Duration = Duration::from_millis(5);

/// A pgbouncer in transaction mode, ended with the test.
#[derive(Debug)]
pub struct Pooler {
    url: String,
    directory: PathBuf,
    process: Child,
}

impl Pooler {
    /// Starts one that keeps so many prepared statements on each connection of its own.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn keeping(statements: u32) -> Self {
        let command = std::env::var(PGBOUNCER).unwrap_or_else(|_| panic!("{PGBOUNCER} is not set; ./test sets it"));
        Self::start(&command, &format!("max_prepared_statements = {statements}\n")).await
    }

    /// Starts a pgbouncer with further settings.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(command: &str, settings: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("sapwood-pooler-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&directory).expect("a directory is made");
        let server = postgres_url();
        let (login, address) = server.rsplit_once('@').expect("postgres://USER@HOST:PORT/DATABASE");
        let (host, database) = address.split_once('/').expect("a database");
        let (host, port) = host.rsplit_once(':').unwrap_or((host, "5432"));
        let login = login.rsplit_once('/').map_or(login, |(_, login)| login);
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let users = directory.join("users.txt");
        std::fs::write(&users, format!("\"{user}\" \"{password}\"\n")).expect("the users are written");
        let own = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let mut ini = format!(
            "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 3\n",
            users.display()
        );
        ini.write_str(settings).expect("a string takes it");
        let file = directory.join("pgbouncer.ini");
        std::fs::write(&file, ini).expect("the settings are written");
        let mut process = Command::new(command);
        // It refuses to run as root.
        if std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
            process.args(["-u", "nobody"]);
        }
        let log = std::fs::File::create(directory.join("log")).expect("a log");
        process.arg("-q").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = process.spawn().unwrap_or_else(|error| panic!("{command} does not start: {error}"));
        let answers = async || match process.try_wait() {
            Ok(None) => TcpStream::connect(("127.0.0.1", own)).await.map(drop).map_err(|error| error.to_string()),
            ended => {
                let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
                panic!("{command} has ended: {ended:?}: {log}")
            }
        };
        until_asked("a pooler that answers", LOOK, answers).await;
        Self { url: format!("postgres://{login}@127.0.0.1:{own}/{database}"), directory, process }
    }

    /// Its address, as that of the database behind it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It fails if the pooler has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        // What cannot be removed is in the directory for temporary files anyway.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
