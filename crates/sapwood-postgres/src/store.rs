//! The store itself: what it is, whether it answers, closing it.

use std::sync::OnceLock;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use sapwood_core::store::{Hint, Store, StoreInfo, StoreResult};
use sqlx::{PgConnection, PgPool};

use crate::connect::Connector;
use crate::error::{failed, permanent};
use crate::fields::Fields;
use crate::hints::Hints;
use crate::options::PostgresOptions;

/// The oldest server on which the statements were tried, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 150_000;

/// The lanes that the migrations make, for a schema that is not there yet. One that is there says it itself.
const LANES: u16 = 16;

/// A context's store: a schema of a PostgreSQL database.
pub struct PostgresStore {
    pub(crate) connector: Connector,
    /// Claims, loads and readers share it; committers have connections of their own.
    pub(crate) pool: PgPool,
    hints: Hints,
    /// Set as soon as the schema is there.
    lanes: OnceLock<u16>,
    /// As the server said at the connect.
    durability: Vec<(String, String)>,
}

impl PostgresStore {
    /// Connects, without making or checking the schema: see [`Self::migrate`] and [`Self::schema_check`].
    ///
    /// # Errors
    /// Permanent if the options cannot be right (the URL, the user, the database, a server that is too old), with a
    /// text that names no secret; of the connection if the server cannot be reached.
    pub async fn connect(options: PostgresOptions) -> StoreResult<Self> {
        let connector = Connector::parse(&options)?;
        let mut connection = connector.open_first("connect").await?;
        let durability = durability(&mut connection).await?;
        drop(connection);
        let pool = connector.shared_pool();
        let hints = Hints::new(&connector, pool.clone());
        let store = Self { connector, pool, hints, lanes: OnceLock::new(), durability };
        // A schema that is not there yet has no settings. They are read when it is made.
        let _ = store.read_settings().await;
        Ok(store)
    }

    /// Reads what was fixed when the schema was created.
    pub(crate) async fn read_settings(&self) -> StoreResult<()> {
        let lanes: i16 = sqlx::query_scalar(include_str!("../queries/store_setting_read.sql"))
            .fetch_one(&self.pool)
            .await
            .map_err(|error| failed("read the number of lanes", error))?;
        let _ = self.lanes.set(lanes.cast_unsigned());
        Ok(())
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            kind: "postgres",
            location: self.connector.location(),
            lanes: self.lanes.get().copied().unwrap_or(LANES),
            // Each has a connection of its own, and they commit side by side.
            committers: u16::MAX,
            durability: self.durability.clone(),
        }
    }

    async fn ping(&self) -> StoreResult<()> {
        sqlx::query(include_str!("../queries/store_ping.sql"))
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(|error| failed("answer", error))
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        self.hints.subscribe()
    }

    async fn hint(&self, hints: &[Hint]) -> StoreResult<()> {
        self.hints.notify(hints).await
    }

    async fn close(&self) {
        self.hints.close().await;
        self.pool.close().await;
    }
}

/// How durable a commit is, as the server says. Refuses a server that is too old.
async fn durability(connection: &mut PgConnection) -> StoreResult<Vec<(String, String)>> {
    let doing = "read the settings of the server";
    let row = sqlx::query(include_str!("../queries/store_describe.sql"))
        .fetch_one(connection)
        .await
        .map_err(|error| failed(doing, error))?;
    let row = Fields::of(&row, doing);
    let version: i32 = row.plain("version")?;
    if version < OLDEST_SERVER {
        return Err(permanent(format!("PostgreSQL {} is too old: 15 or newer is needed", version / 10_000)));
    }
    ["fsync", "synchronous_commit", "full_page_writes"]
        .into_iter()
        .map(|setting| Ok((setting.to_owned(), row.plain(setting)?)))
        .collect()
}
