//! What the server is: refused at the start if no store can be on it.

use sapwood_core::store::StoreResult;
use sqlx::PgConnection;
use tokio::time::timeout;

use crate::connect::Connector;
use crate::error::{failed, is_of_a_pooler, permanent, unanswered};
use crate::fields::Fields;
use crate::options::PostgresOptions;

/// The oldest server on which the statements were tried, as `server_version_num` counts.
const OLDEST: i32 = 150_000;

/// A process has one starter, one lease and one listener for hints, besides pools and committers.
const SINGLE: u32 = 3;

/// What a server said when it was asked.
pub(crate) struct Server {
    /// How durable a commit is.
    pub(crate) durability: Vec<(String, String)>,
    /// Which limits of connections hold for this user, and who sets them.
    limits: Vec<(&'static str, u32)>,
}

impl Server {
    /// Asks the server, on two connections: behind a pooler that knows nothing of prepared statements, the statement that
    /// one of them prepared is in the way of the other, or is gone.
    pub(crate) async fn ask(connector: &Connector) -> StoreResult<Self> {
        let mut first = connector.open_first("connect").await?;
        let server = Self::ask_on(connector, &mut first).await?;
        let mut second = connector.open_first("connect").await?;
        Self::ask_on(connector, &mut second).await?;
        Self::ask_on(connector, &mut first).await?;
        Ok(server)
    }

    async fn ask_on(connector: &Connector, connection: &mut PgConnection) -> StoreResult<Self> {
        let doing = "read the settings of the server";
        let asking = sqlx::query(include_str!("../queries/store_describe.sql")).fetch_one(connection);
        let row = timeout(connector.answer_within, asking).await.map_err(|_| unanswered(doing))?;
        let row = row.map_err(|error| {
            let state = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
            if is_of_a_pooler(&state) { connector.pooled() } else { failed(doing, error) }
        })?;
        Self::read(&Fields::of(&row, doing))
    }

    fn read(row: &Fields<'_>) -> StoreResult<Self> {
        let version: i32 = row.plain("version")?;
        if version < OLDEST {
            return Err(permanent(format!("PostgreSQL {} is too old: 15 or newer is needed", version / 10_000)));
        }
        let encoding: String = row.plain("encoding")?;
        if encoding != "UTF8" {
            return Err(permanent(format!(
                "the database stores text as {encoding}, and a context needs UTF8: create one with \
                 `create database … encoding 'UTF8' template template0`"
            )));
        }
        let isolation: String = row.plain("isolation")?;
        if isolation != "read committed" {
            return Err(permanent(format!(
                "default_transaction_isolation is `{isolation}`, and a context needs `read committed`: set it for the \
                 user, `alter role … set default_transaction_isolation = 'read committed'`"
            )));
        }
        let durability = ["fsync", "synchronous_commit", "full_page_writes"]
            .into_iter()
            .map(|setting| Ok((setting.to_owned(), row.plain(setting)?)))
            .collect::<StoreResult<_>>()?;
        Ok(Self { durability, limits: limits(row)? })
    }

    /// Refuses options that need more connections than a limit allows.
    pub(crate) fn capacity_check(&self, options: &PostgresOptions) -> StoreResult<()> {
        let needed = needed(options);
        let Some((of, limit)) = self.limits.iter().find(|(_, limit)| *limit < needed) else { return Ok(()) };
        Err(permanent(format!(
            "a process of `{}` may open {needed} connections ({} reader_connections + {} worker_connections + {} \
             committers + {} transactions + {SINGLE} for starts, lease and hints), and PostgreSQL allows {limit}: raise \
             {of}, or lower these settings",
            options.schema,
            options.reader_connections,
            options.worker_connections,
            options.committers,
            options.transactions
        )))
    }
}

/// The connections that a process may have open at once.
fn needed(options: &PostgresOptions) -> u32 {
    options.reader_connections
        + options.worker_connections
        + u32::from(options.committers)
        + u32::from(options.transactions)
        + SINGLE
}

fn limits(row: &Fields<'_>) -> StoreResult<Vec<(&'static str, u32)>> {
    let is_superuser: bool = row.plain("is_superuser")?;
    let mut limits = vec![("max_connections of the server", row.plain("server_limit")?)];
    // They do not hold for superusers.
    if !is_superuser {
        limits.push(("the connection limit of the user (`alter role … connection limit`)", row.plain("role_limit")?));
        let database = "the connection limit of the database (`alter database … connection limit`)";
        limits.push((database, row.plain("database_limit")?));
    }
    // What is negative is no limit.
    Ok(limits.into_iter().filter_map(|(of, limit): (_, i32)| Some((of, u32::try_from(limit).ok()?))).collect())
}
