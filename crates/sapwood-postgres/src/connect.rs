//! Connections: the settings that each of them gets, and clear errors of connecting.

use std::str::FromStr;
use std::time::Duration;

use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::timeout;

use crate::error::{failed, permanent, unanswered};
use crate::options::PostgresOptions;

/// The longest name of a schema. PostgreSQL cuts names off after 63 bytes; this leaves room for the prefix of the
/// channel of hints and for the role in `application_name`.
const LONGEST_NAME: usize = 40;

/// Opens connections, each with the settings that all statements rely on.
#[derive(Clone)]
pub(crate) struct Connector {
    options: PgConnectOptions,
    pub(crate) schema: String,
    /// The size of the shared pool.
    connections: u32,
    connect_within: Duration,
    pub(crate) answer_within: Duration,
}

impl Connector {
    /// Reads the options.
    pub(crate) fn parse(options: &PostgresOptions) -> StoreResult<Self> {
        check_schema_name(&options.schema)?;
        if !["postgres://", "postgresql://"].iter().any(|scheme| options.url.starts_with(scheme)) {
            return Err(permanent("not a PostgreSQL URL: it should begin with postgres://"));
        }
        // The cause is left out: it may quote a part of the URL, and so a password.
        let parsed = PgConnectOptions::from_str(&options.url)
            .map_err(|_| permanent("not a PostgreSQL URL: expected postgres://user:password@host:port/database"))?;
        Ok(Self {
            options: parsed.disable_statement_logging(),
            schema: options.schema.clone(),
            connections: options.connections.max(1),
            connect_within: options.connect_within,
            answer_within: options.answer_within,
        })
    }

    /// The server with database and schema, without credentials.
    pub(crate) fn location(&self) -> String {
        let database = self.options.get_database().unwrap_or_else(|| self.options.get_username());
        format!("{} schema {}", self.server(database), self.schema)
    }

    /// Opens the first connection of a store. What is wrong with the URL is then permanent; later it is the server that
    /// has changed, and no tree is to blame for that.
    pub(crate) async fn open_first(&self, role: &str) -> StoreResult<PgConnection> {
        self.open_as(role, StoreErrorKind::Permanent).await
    }

    /// Opens a connection for one role.
    pub(crate) async fn open(&self, role: &str) -> StoreResult<PgConnection> {
        self.open_as(role, StoreErrorKind::Connection).await
    }

    async fn open_as(&self, role: &str, refused: StoreErrorKind) -> StoreResult<PgConnection> {
        let opening = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            configure(&mut connection, &self.schema, &application_name(&self.schema, role)).await?;
            Ok(connection)
        };
        timeout(self.connect_within, opening)
            .await
            .map_err(|_| unanswered("open a connection"))?
            .map_err(|error| self.not_connected(error, refused))
    }

    /// A pool of connections that are opened when they are needed.
    pub(crate) fn pool(&self, role: &str, connections: u32) -> PgPool {
        let (schema, application) = (self.schema.clone(), application_name(&self.schema, role));
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(self.connect_within)
            .after_connect(move |connection, _| {
                let (schema, application) = (schema.clone(), application.clone());
                Box::pin(async move { configure(connection, &schema, &application).await })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// The pool for claims, loads and readers.
    pub(crate) fn shared_pool(&self) -> PgPool {
        self.pool("store", self.connections)
    }

    /// Says what is wrong with which part of the URL, without a secret.
    fn not_connected(&self, error: sqlx::Error, refused: StoreErrorKind) -> StoreError {
        let user = self.options.get_username();
        let database = self.options.get_database().unwrap_or(user);
        let server = self.server(database);
        let state = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        match state.as_str() {
            // Wrong password, and no rule in `pg_hba.conf` that lets the user in.
            "28P01" | "28000" => {
                StoreError::new(refused, format!("PostgreSQL at {server} does not let user {user} in"))
            }
            // The database does not exist.
            "3D000" => StoreError::new(refused, format!("PostgreSQL at {server} has no database {database}")),
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

async fn configure(connection: &mut PgConnection, schema: &str, application: &str) -> sqlx::Result<()> {
    sqlx::query(include_str!("../queries/connection_configure.sql"))
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
    let is_name = (1..=LONGEST_NAME).contains(&schema.len()) && schema.chars().all(is_plain);
    if !is_name || schema.starts_with("pg_") {
        return Err(permanent(format!(
            "not a name for a schema: `{}` (lower case letters, digits, `-` and `_`, at most {LONGEST_NAME})",
            schema.escape_debug()
        )));
    }
    Ok(())
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
        assert_eq!(connector.location(), "h:5432/d schema orders");
    }

    #[test]
    fn a_schema_s_name_cannot_be_anything_but_a_name() {
        for name in ["", "Orders", "a\"b", "a b", "pg_x", &"x".repeat(41)] {
            assert!(Connector::parse(&PostgresOptions::new("postgres://h/d", name)).is_err(), "{name}");
        }
    }
}
