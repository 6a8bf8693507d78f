//! The connections that only read, all of the file that was opened first.
//!
//! A connection is opened when it is needed, by the path, so it may be of another file that stands there meanwhile. So the
//! path is compared before a read and after it, and once the file was away, every connection is opened anew.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;
use sapwood_core::store::StoreResult;
use sqlx::{Connection as _, SqliteConnection, SqlitePool};

use crate::connect;
use crate::db::Db;
use crate::error::classify;
use crate::identity::Identity;
use crate::reads::Reads;
use crate::work::Work;

/// The readers of one file.
pub(crate) struct Readers {
    file: PathBuf,
    count: u32,
    identity: Identity,
    /// What they do now.
    reads: Reads,
    pool: RwLock<SqlitePool>,
}

impl Readers {
    /// Opens nothing yet.
    pub(crate) fn of(file: PathBuf, count: u32, identity: Identity, reads: Reads) -> Self {
        let pool = RwLock::new(connect::readers(&file, count));
        Self { file, count, identity, reads, pool }
    }

    /// Carries work out, as of one moment if it needs that.
    pub(crate) async fn read<W: Work>(&self, work: &W, now: Timestamp) -> StoreResult<W::Answer> {
        self.identity.check()?;
        let pool = self.pool();
        let mut connection = match pool.acquire().await {
            Ok(connection) => connection,
            Err(error) => return self.identity.check().and_then(|()| Err(classify(error))),
        };
        let kind = std::any::type_name::<W>().rsplit("::").next().unwrap_or_default();
        let reading = self.reads.begin(kind);
        let answer = answer(work, &mut connection, now).await;
        drop(reading);
        self.identity.check().and(answer)
    }

    /// Closes all connections, once what is under way has ended.
    pub(crate) async fn close(&self) {
        let pool = self.pool();
        pool.close().await;
    }

    fn pool(&self) -> SqlitePool {
        if self.identity.take_was_away() {
            let pool = connect::readers(&self.file, self.count);
            *self.pool.write().unwrap_or_else(PoisonError::into_inner) = pool;
        }
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer<W: Work>(work: &W, connection: &mut SqliteConnection, now: Timestamp) -> StoreResult<W::Answer> {
    if !W::SNAPSHOT {
        return work.run(&mut Db::new(connection, now)).await;
    }
    let mut transaction = connection.begin().await.map_err(classify)?;
    let answer = work.run(&mut Db::new(&mut transaction, now)).await?;
    transaction.commit().await.map_err(classify)?;
    Ok(answer)
}
