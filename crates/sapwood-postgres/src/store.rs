//! The store itself: what it is, whether it answers, closing it.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use sapwood_core::store::{Hint, Store, StoreInfo, StoreResult};

use crate::connect::Connector;
use crate::hints::Hints;
use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::server::Server;

/// The lanes that the migrations make, for a schema that is not there yet. One that is there says it itself.
const LANES: u16 = 16;

/// A context's store: a schema of a PostgreSQL database.
pub struct PostgresStore {
    pub(crate) connector: Connector,
    /// For what readers ask. However long their lists are, no worker waits for them.
    pub(crate) readers: Pool,
    /// For claims, loads, lanes, offsets, hints; committers have connections of their own.
    pub(crate) workers: Arc<Pool>,
    hints: Hints,
    /// Set as soon as the schema is there.
    lanes: OnceLock<u16>,
    /// As the server said at the connect.
    server: Server,
    options: PostgresOptions,
}

impl PostgresStore {
    /// Connects, without making or checking the schema: see [`Self::migrate`] and [`Self::schema_check`].
    ///
    /// # Errors
    /// Permanent if the options cannot be right (the URL, the user, the database, a server that is too old), with a
    /// text that names no secret; of the connection if the server cannot be reached. A server is refused too if its
    /// database does not store text as UTF-8, if its transactions are not `read committed` by default, or if a pooler
    /// before it loses prepared statements.
    pub async fn connect(options: PostgresOptions) -> StoreResult<Self> {
        let connector = Connector::parse(&options)?;
        let server = Server::ask(&connector).await?;
        let readers = Pool::new(&connector, "reader", options.reader_connections.max(1));
        let workers = Arc::new(Pool::new(&connector, "worker", options.worker_connections.max(1)));
        let hints = Hints::new(&connector, Arc::clone(&workers));
        let store = Self { connector, readers, workers, hints, lanes: OnceLock::new(), server, options };
        for warning in store.info().durability_warnings() {
            tracing::warn!("PostgreSQL at {}: {warning}", store.connector.location());
        }
        // A schema that is not there yet has no settings. They are read when it is made.
        let _ = store.read_settings().await;
        Ok(store)
    }

    /// Whether the server lets this process have all the connections that its options may open, and one with every
    /// committer. Behind a pooler (`direct_url` is set) nothing is checked: its limits are its own.
    ///
    /// # Errors
    /// Permanent if it does not, with the limit, the sum and its parts.
    pub fn capacity_check(&self) -> StoreResult<()> {
        match self.options.direct_url {
            Some(_) => Ok(()),
            None => self.server.capacity_check(&self.options),
        }
    }

    /// Reads what was fixed when the schema was created.
    pub(crate) async fn read_settings(&self) -> StoreResult<()> {
        let read = sqlx::query_scalar(self.workers.sql(include_str!("../queries/store_setting_read.sql")));
        let reading = self.workers.run("read the number of lanes", async |connection| read.fetch_one(connection).await);
        let lanes: i16 = reading.await?;
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
            durability: self.server.durability.clone(),
        }
    }

    async fn ping(&self) -> StoreResult<()> {
        let ping = sqlx::query(include_str!("../queries/store_ping.sql"));
        self.workers.run("answer", async |connection| ping.execute(connection).await).await.map(drop)
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        self.hints.subscribe()
    }

    async fn hint(&self, hints: &[Hint]) -> StoreResult<()> {
        self.hints.notify(hints).await
    }

    async fn close(&self) {
        self.hints.close().await;
        self.readers.close().await;
        self.workers.close().await;
    }
}
