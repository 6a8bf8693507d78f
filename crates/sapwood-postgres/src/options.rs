//! Where the store is, and how long it is waited for.

use std::time::Duration;

/// Connections of the shared pool. A claim or a load takes a few milliseconds, so a few connections serve one process,
/// and many processes of a context still fit into a server's default of 100 connections.
const CONNECTIONS: u32 = 8;

/// A server within reach answers in milliseconds; a process that starts while its server restarts waits this long.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A statement may wait some seconds for a stranger's lock. Without a bound, a server that vanished without a word
/// would be noticed when the operating system gives the connection up, after a quarter of an hour.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Where the store is.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`.
    pub url: String,
    /// The schema: the name of the bounded context. Lower case letters, digits, `-` and `_`, at most 40.
    pub schema: String,
    /// Connections for claims, loads and readers; committers, starters, leases and hints have one of their own each.
    pub connections: u32,
    /// How long it may take to open a connection, or to get one from the pool.
    pub connect_within: Duration,
    /// How long a statement of a committer or a starter may go without an answer before its connection counts as
    /// lost.
    pub answer_within: Duration,
}

impl PostgresOptions {
    /// The options for a schema of the database at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>, schema: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: schema.into(),
            connections: CONNECTIONS,
            connect_within: CONNECT_WITHIN,
            answer_within: ANSWER_WITHIN,
        }
    }
}

/// Without the URL, which may contain a password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions").field("schema", &self.schema).finish_non_exhaustive()
    }
}
