//! Connections: opening them within a time, their settings, and clear errors of connecting.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::store::{StoreError, StoreErrorKind, StoreResult};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::time::timeout;

use crate::error::{failed, is_of_a_pooler, permanent, unanswered};
use crate::options::PostgresOptions;
use crate::statements::Statements;

/// The longest name of a schema. PostgreSQL cuts names off after 63 bytes; this leaves room for the prefix of the
/// channel of hints and for the purpose in `application_name`.
const LONGEST_NAME: usize = 40;

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Connector {
    options: PgConnectOptions,
    /// Past a pooler, if there is one.
    direct: PgConnectOptions,
    pub(crate) schema: String,
    statements: Arc<Statements>,
    pub(crate) connect_within: Duration,
    pub(crate) answer_within: Duration,
    pub(crate) commit_within: Duration,
}

impl Connector {
    /// Reads the options.
    pub(crate) fn parse(options: &PostgresOptions) -> StoreResult<Self> {
        check_schema_name(&options.schema)?;
        let url = parse_url(&options.url)?;
        Ok(Self {
            direct: options.direct_url.as_deref().map_or_else(|| Ok(url.clone()), parse_url)?,
            options: url,
            schema: options.schema.clone(),
            statements: Arc::new(Statements::of(&options.schema)),
            connect_within: options.connect_within,
            answer_within: options.answer_within,
            commit_within: options.commit_within,
        })
    }

    /// The server with database and schema, without credentials.
    pub(crate) fn location(&self) -> String {
        format!("{} schema {}", self.server(), self.schema)
    }

    /// A statement of a file, with the schema written in.
    pub(crate) fn sql(&self, file: &'static str) -> AssertSqlSafe<Arc<str>> {
        self.statements.sql(file)
    }

    /// Opens a connection of a store that begins. What is wrong with the URL is then permanent; later it is the server
    /// that has changed, and no tree is to blame for that.
    pub(crate) async fn open_first(&self, purpose: &str) -> StoreResult<PgConnection> {
        self.open_as(purpose, true, StoreErrorKind::Permanent).await
    }

    /// Opens a connection for one purpose.
    pub(crate) async fn open(&self, purpose: &str) -> StoreResult<PgConnection> {
        self.open_as(purpose, true, StoreErrorKind::Connection).await
    }

    /// Opens a connection that is left as the server gives it.
    pub(crate) async fn open_plain(&self, purpose: &str) -> StoreResult<PgConnection> {
        self.open_as(purpose, false, StoreErrorKind::Connection).await
    }

    async fn open_as(&self, purpose: &str, configured: bool, refused: StoreErrorKind) -> StoreResult<PgConnection> {
        let options = self.options.clone().application_name(&application_name(&self.schema, purpose));
        let opening = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            if configured {
                configure(&mut connection).await?;
            }
            Ok(connection)
        };
        timeout(self.connect_within, opening)
            .await
            .map_err(|_| unanswered("open a connection"))?
            .map_err(|error| self.not_connected(error, refused))
    }

    /// A pool of one connection that leads to no pooler: the driver's listener takes nothing else.
    pub(crate) fn direct_pool(&self, purpose: &str) -> PgPool {
        let options = self.direct.clone().application_name(&application_name(&self.schema, purpose));
        PgPoolOptions::new().max_connections(1).acquire_timeout(self.connect_within).connect_lazy_with(options)
    }

    /// The error of a server whose prepared statements do not last.
    pub(crate) fn pooled(&self) -> StoreError {
        permanent(format!(
            "prepared statements do not last at {}: a pooler stands before PostgreSQL and lends its connections for single \
             transactions. Use pgbouncer 1.21 or newer with max_prepared_statements set (200, for instance), or \
             pool_mode = session, or the address of PostgreSQL itself",
            self.server()
        ))
    }

    /// Says what is wrong with which part of the URL, without a secret.
    fn not_connected(&self, error: sqlx::Error, refused: StoreErrorKind) -> StoreError {
        let (user, database) = (self.user(), self.database());
        let server = self.server();
        let state = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        match state.as_str() {
            // Wrong password, and no rule in `pg_hba.conf` that lets the user in.
            "28P01" | "28000" => {
                StoreError::new(refused, format!("PostgreSQL at {server} does not let user {user} in"))
            }
            // The database does not exist.
            "3D000" => StoreError::new(refused, format!("PostgreSQL at {server} has no database {database}")),
            state if refused == StoreErrorKind::Permanent && is_of_a_pooler(state) => self.pooled(),
            "" => StoreError::new(StoreErrorKind::Connection, format!("cannot reach PostgreSQL at {server}")),
            _ => return failed(&format!("open a connection to {server}"), error),
        }
        .caused_by(error)
    }

    pub(crate) fn user(&self) -> &str {
        self.options.get_username()
    }

    pub(crate) fn database(&self) -> &str {
        self.options.get_database().unwrap_or_else(|| self.user())
    }

    fn server(&self) -> String {
        let database = self.database();
        match self.options.get_socket() {
            Some(socket) => format!("{}/{database}", socket.display()),
            None => format!("{}:{}/{database}", self.options.get_host(), self.options.get_port()),
        }
    }
}

fn parse_url(url: &str) -> StoreResult<PgConnectOptions> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(permanent("not a PostgreSQL URL: it should begin with postgres://"));
    }
    // The cause is left out: it may quote a part of the URL, and so a password.
    let parsed = PgConnectOptions::from_str(url)
        .map_err(|_| permanent("not a PostgreSQL URL: expected postgres://user:password@host:port/database"))?;
    // Poolers refuse settings at the start that they do not know, and no float goes over the wire as text.
    Ok(parsed.extra_float_digits(None).disable_statement_logging())
}

async fn configure(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(include_str!("../queries/connection_configure.sql")).bind(false).execute(connection).await.map(drop)
}

/// Shown in `pg_stat_activity`.
fn application_name(schema: &str, purpose: &str) -> String {
    format!("sapwood {schema} {purpose}")
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
