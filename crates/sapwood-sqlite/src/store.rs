//! The handle of a store: opens it, and sends work to the writer or to a reader.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use sapwood_core::store::{Hint, Store, StoreInfo, StoreResult};

use crate::args::Args;
use crate::connect;
use crate::db::{Db, stored};
use crate::hints::Hints;
use crate::identity::Identity;
use crate::lock::FileLock;
use crate::options::SqliteOptions;
use crate::readers::Readers;
use crate::reads::Reads;
use crate::schema::{LANES, SchemaCheck, TakeOver};
use crate::work::Work;
use crate::writer::Writer;

/// A store on SQLite. Clones share it; several workers of one process may.
///
/// The database is closed by [`Store::close`], or when the last clone, committer, starter and lease is dropped.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    options: SqliteOptions,
    writer: Writer,
    /// None in memory, where the writer reads.
    readers: Option<Readers>,
    hints: Hints,
    /// Set as soon as the schema is this build's.
    lanes: OnceLock<u16>,
    /// As the database said at the opening.
    durability: Vec<(String, String)>,
}

impl SqliteStore {
    /// Opens a store: takes the lock beside the file, creates directory and file if they are not there, and declares
    /// dead all workers that were registered before, because no process of theirs can be alive. Changes no schema; see
    /// [`Self::migrate`].
    ///
    /// # Errors
    /// [`Permanent`](sapwood_core::store::StoreErrorKind::Permanent) if another process, or another store of this
    /// one, has the file open; the message names the file.
    pub async fn open(options: SqliteOptions) -> StoreResult<Self> {
        let lock = match &options.file {
            Some(file) => {
                connect::make_directory(file)?;
                Some(FileLock::take(file).await?)
            }
            None => None,
        };
        let mut connection = connect::writer(&options).await?;
        let durability = connect::durability(&mut connection).await?;
        let reads = Reads::default();
        let identity = options.file.as_deref().map(Identity::of);
        let writer = Writer::start(connection, options.clone(), identity.clone(), lock, reads.clone())?;
        let readers = options.file.clone().zip(identity);
        let readers = readers.map(|(file, identity)| Readers::of(file, options.readers, identity, reads));
        let lanes = OnceLock::new();
        if let Some(count) = writer.run(TakeOver).await? {
            let _ = lanes.set(count);
        }
        let inner = Inner { options, writer, readers, hints: Hints::new(), lanes, durability };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes the schema, or brings it up to this build's version.
    ///
    /// # Errors
    /// [`Permanent`](sapwood_core::store::StoreErrorKind::Permanent) if the schema is newer than this build or was made
    /// by another set of migrations.
    pub async fn migrate(&self) -> StoreResult<()> {
        let lanes = self.inner.writer.migrate().await?;
        let _ = self.inner.lanes.set(lanes);
        Ok(())
    }

    /// Whether the schema is the one that this build makes.
    ///
    /// # Errors
    /// [`Permanent`](sapwood_core::store::StoreErrorKind::Permanent) if it is not: older or newer, with both versions,
    /// or made by another set of migrations.
    pub async fn schema_check(&self) -> StoreResult<()> {
        let lanes = self.read(SchemaCheck { location: self.inner.options.location() }).await?;
        let _ = self.inner.lanes.set(lanes);
        Ok(())
    }

    /// The writer, for all that writes.
    pub(crate) fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    /// Carries work out that only reads.
    pub(crate) async fn read<W: Work>(&self, work: W) -> StoreResult<W::Answer> {
        match &self.inner.readers {
            Some(readers) => readers.read(&work, stored(self.inner.options.clock.now())).await,
            None => self.inner.writer.run(work).await,
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            kind: "sqlite",
            location: self.inner.options.location(),
            lanes: self.inner.lanes.get().copied().unwrap_or(LANES),
            // There is one writer; more committers would only wait for it.
            committers: 1,
            durability: self.inner.durability.clone(),
        }
    }

    async fn ping(&self) -> StoreResult<()> {
        self.read(Ping).await
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        self.inner.hints.subscribe()
    }

    async fn hint(&self, hints: &[Hint]) -> StoreResult<()> {
        self.inner.hints.notify(hints);
        Ok(())
    }

    async fn close(&self) {
        self.inner.hints.close();
        // Readers first: the last connection to close moves the write-ahead log into the database.
        if let Some(readers) = &self.inner.readers {
            readers.close().await;
        }
        self.inner.writer.close().await;
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

struct Ping;

#[async_trait]
impl Work for Ping {
    type Answer = ();
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<()> {
        db.one(include_str!("../queries/store_ping.sql"), Args::of(0)).await.map(drop)
    }
}
