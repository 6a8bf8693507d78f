//! The store itself: what it is, whether it answers, closing it.

use std::sync::OnceLock;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use sapwood_core::store::{Hint, Store, StoreError, StoreErrorKind, StoreInfo, StoreResult};
use sqlx::{PgConnection, PgPool};

use crate::PostgresOptions;
use crate::connect::Connector;
use crate::error::failed;
use crate::hints::Hints;
use crate::rows::Reader;

/// The oldest server that the statements were tried on, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 150_000;

/// Lanes that the migrations make. A schema that exists says it itself.
const LANES: u16 = 16;

/// A context's store: a schema of a PostgreSQL database.
pub struct PostgresStore {
    pub(crate) connector: Connector,
    pub(crate) pool: PgPool,
    hints: Hints,
    lanes: OnceLock<u16>,
    durability: Vec<(String, String)>,
}

impl PostgresStore {
    /// Connects, without making or checking the schema: see [`Self::migrate`] and [`Self::schema_check`].
    ///
    /// # Errors
    /// Permanent where the options cannot be right (the URL, the user, the database, a server that is too old), with
    /// a text that names no secret; of the connection where the server cannot be reached.
    pub async fn connect(options: PostgresOptions) -> StoreResult<Self> {
        let connector = Connector::parse(&options)?;
        let mut connection = connector.open("connect").await?;
        let durability = durability_read(&mut connection).await?;
        drop(connection);
        let pool = connector.shared_pool();
        let hints = Hints::new(&connector, pool.clone());
        let store = Self { connector, pool, hints, lanes: OnceLock::new(), durability };
        // A schema that is not there yet has no lanes yet; whoever makes it learns them then.
        let _ = store.learn_lanes().await;
        Ok(store)
    }

    /// Reads what was fixed when the schema was created.
    pub(crate) async fn learn_lanes(&self) -> StoreResult<()> {
        let lanes: i16 = sqlx::query_scalar(include_str!("../queries/lanes_count.sql"))
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
            committers: u16::MAX,
            kind: "postgres",
            place: self.connector.place(),
            lanes: self.lanes.get().copied().unwrap_or(LANES),
            durability: self.durability.clone(),
        }
    }

    async fn ping(&self) -> StoreResult<()> {
        sqlx::query(include_str!("../queries/ping.sql"))
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

async fn durability_read(connection: &mut PgConnection) -> StoreResult<Vec<(String, String)>> {
    let doing = "read its settings";
    let row = sqlx::query(include_str!("../queries/durability_read.sql"))
        .fetch_one(connection)
        .await
        .map_err(|error| failed(doing, error))?;
    let row = Reader::new(&row, doing);
    let version: i32 = row.plain("version")?;
    if version < OLDEST_SERVER {
        return Err(StoreError::new(
            StoreErrorKind::Permanent,
            format!("PostgreSQL {} is too old: 15 or newer is needed", version / 10_000),
        ));
    }
    ["fsync", "synchronous_commit", "full_page_writes"]
        .into_iter()
        .map(|setting| Ok((setting.to_owned(), row.plain(setting)?)))
        .collect()
}
