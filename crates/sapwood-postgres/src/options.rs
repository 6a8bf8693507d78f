//! Where the store is, how many connections it may have, and how long it is waited for.

use std::time::Duration;

/// Connections of each pool. A claim or a read takes a few milliseconds, so a few connections serve one process, and many
/// processes of a context still fit into a server's default of 100 connections.
const CONNECTIONS: u32 = 4;

/// Connections that commit, as an engine has them by default.
const COMMITTERS: u16 = 2;

/// A server within reach answers in milliseconds; a process that starts while its server restarts waits this long.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Claims, loads and reads wait for no lock of a row, so one that takes this long has lost its server. Without a bound that
/// would be noticed when the operating system gives the connection up, after a quarter of an hour.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A commit may wait some seconds for a stranger's lock, and one that is given up has to be asked about.
const COMMIT_WITHIN: Duration = Duration::from_secs(60);

/// Where the store is.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`. It may lead to a pooler.
    pub url: String,
    /// Where hints are listened for, if `url` leads to a pooler: the same database without the pooler, because `LISTEN`
    /// needs a session of its own. Without it `url` is used; hints that a pooler loses are made up for by slow polls.
    pub direct_url: Option<String>,
    /// The schema: the name of the bounded context. Lower case letters, digits, `-` and `_`, at most 40.
    pub schema: String,
    /// Connections for readers: REST, and callers that wait for an outcome.
    pub reader_connections: u32,
    /// Connections for workers: claims, loads, lanes, offsets, the log.
    pub worker_connections: u32,
    /// Committers that the store will be asked for. They are not limited by this, but counted by
    /// [`capacity_check`](crate::PostgresStore::capacity_check).
    pub committers: u16,
    /// Transactions of authors that the store will be asked for at once, each on a connection of its own. They are not limited
    /// by this either, but counted.
    pub transactions: u16,
    /// How long it may take to open a connection, or to get one from a pool.
    pub connect_within: Duration,
    /// How long a statement on a connection of a pool may go without an answer before its connection counts as lost. A
    /// renewal of a lease has no longer than the lease besides.
    pub answer_within: Duration,
    /// The same for a statement of a committer or a starter.
    pub commit_within: Duration,
}

impl PostgresOptions {
    /// The options for a schema of the database at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>, schema: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            direct_url: None,
            schema: schema.into(),
            reader_connections: CONNECTIONS,
            worker_connections: CONNECTIONS,
            committers: COMMITTERS,
            transactions: 0,
            connect_within: CONNECT_WITHIN,
            answer_within: ANSWER_WITHIN,
            commit_within: COMMIT_WITHIN,
        }
    }
}

/// Without the URLs, which may contain a password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions").field("schema", &self.schema).finish_non_exhaustive()
    }
}
