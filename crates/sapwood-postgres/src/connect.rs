//! Options, the settings that every connection gets, and clear errors of connecting.

use std::str::FromStr;
use std::time::Duration;

use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::timeout;

use crate::error::{failed, silent};

/// Where the store is.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`.
    pub url: String,
    /// The schema: the name of the bounded context. Lower case letters, digits, `-` and `_`, at most 40.
    pub schema: String,
    /// Connections for claims, loads and readers; committers, starters, leases and hints have one of their own each.
    pub connections: u32,
    /// How long a connection may take to be made, or to be had from the pool.
    pub connect_within: Duration,
    /// How long a statement of a committer or a starter may go without an answer before its connection counts as
    /// lost: a server that vanished without a word is otherwise noticed after a quarter of an hour.
    pub answer_within: Duration,
}

impl PostgresOptions {
    /// The options for a schema of the database at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>, schema: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: schema.into(),
            connections: 8,
            connect_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(60),
        }
    }
}

/// Without the URL: it may hold a password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Makes connections, each with the settings that all statements rely on.
#[derive(Clone)]
pub(crate) struct Connector {
    options: PgConnectOptions,
    pub(crate) schema: String,
    connections: u32,
    connect_within: Duration,
    pub(crate) answer_within: Duration,
}

impl Connector {
    /// Reads the options.
    pub(crate) fn parse(options: &PostgresOptions) -> StoreResult<Self> {
        check_schema_name(&options.schema)?;
        if !["postgres://", "postgresql://"].iter().any(|scheme| options.url.starts_with(scheme)) {
            return Err(unusable("not a PostgreSQL URL: it should begin with postgres://"));
        }
        // The cause is left out: it may quote a part of the URL, and so a password.
        let parsed = PgConnectOptions::from_str(&options.url)
            .map_err(|_| unusable("not a PostgreSQL URL: expected postgres://user:password@host:port/database"))?;
        Ok(Self {
            options: parsed.disable_statement_logging(),
            schema: options.schema.clone(),
            connections: options.connections.max(1),
            connect_within: options.connect_within,
            answer_within: options.answer_within,
        })
    }

    /// The server with database and schema, without credentials.
    pub(crate) fn place(&self) -> String {
        let database = self.options.get_database().unwrap_or_else(|| self.options.get_username());
        format!("{} schema {}", self.server(database), self.schema)
    }

    /// A connection of its own, for one role.
    pub(crate) async fn open(&self, role: &str) -> StoreResult<PgConnection> {
        let opening = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            settle(&mut connection, &self.schema, &application_name(&self.schema, role)).await?;
            Ok(connection)
        };
        timeout(self.connect_within, opening)
            .await
            .map_err(|_| silent("open a connection"))?
            .map_err(|error| self.not_connected(error))
    }

    /// A pool of connections that are opened when needed.
    pub(crate) fn pool(&self, role: &str, connections: u32) -> PgPool {
        let (schema, application) = (self.schema.clone(), application_name(&self.schema, role));
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(self.connect_within)
            .after_connect(move |connection, _| {
                let (schema, application) = (schema.clone(), application.clone());
                Box::pin(async move { settle(connection, &schema, &application).await })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// The pool for claims, loads and readers.
    pub(crate) fn shared_pool(&self) -> PgPool {
        self.pool("store", self.connections)
    }

    /// Says what is wrong, and with what, but no secret.
    fn not_connected(&self, error: sqlx::Error) -> StoreError {
        let user = self.options.get_username();
        let database = self.options.get_database().unwrap_or(user);
        let server = self.server(database);
        let state = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        match state.as_str() {
            "28P01" | "28000" => unusable(format!("PostgreSQL at {server} does not let user {user} in")),
            "3D000" => unusable(format!("PostgreSQL at {server} has no database {database}")),
            "" => StoreError::new(StoreErrorKind::Connection, format!("cannot reach PostgreSQL at {server}")),
            _ => return failed(&format!("open a connection to {server}"), error),
        }
        .caused_by(error)
    }

    fn server(&self, database: &str) -> String {
        match self.options.get_socket() {
            Some(socket) => format!("{}/{database}", socket.display()),
            None => format!("{}:{}/{database}", self.options.get_host(), self.options.get_port()),
        }
    }
}

async fn settle(connection: &mut PgConnection, schema: &str, application: &str) -> sqlx::Result<()> {
    sqlx::query(include_str!("../queries/connection_settings.sql"))
        .bind(schema)
        .bind(application)
        .execute(connection)
        .await
        .map(drop)
}

/// Shown in `pg_stat_activity`.
fn application_name(schema: &str, role: &str) -> String {
    format!("sapwood {schema} {role}")
}

fn check_schema_name(schema: &str) -> StoreResult<()> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if schema.is_empty() || schema.len() > 40 || !schema.chars().all(is_plain) || schema.starts_with("pg_") {
        return Err(unusable(format!(
            "not a name for a schema: `{}` (lower case letters, digits, `-` and `_`, at most 40)",
            schema.escape_debug()
        )));
    }
    Ok(())
}

fn unusable(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Permanent, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_url_shows_no_password() {
        for url in ["mysql://u:hunter2@h/d", "postgres://u:hunter2@h:notaport/d", "u:hunter2"] {
            let error = Connector::parse(&PostgresOptions::new(url, "orders")).err().expect("refused");
            assert_eq!(error.kind(), StoreErrorKind::Permanent);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let connector = Connector::parse(&PostgresOptions::new("postgres://u:hunter2@h/d", "orders")).expect("a URL");
        assert_eq!(connector.place(), "h:5432/d schema orders");
    }

    #[test]
    fn a_schema_s_name_cannot_be_anything_but_a_name() {
        for name in ["", "Orders", "a\"b", "a b", "pg_x", &"x".repeat(41)] {
            assert!(Connector::parse(&PostgresOptions::new("postgres://h/d", name)).is_err(), "{name}");
        }
    }
}
