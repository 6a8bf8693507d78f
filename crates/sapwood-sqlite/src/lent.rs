//! The writer's connection while it is lent to an author, within a transaction.
//!
//! A database in memory is its connection, so a connection that was lent always comes back, however its borrower ends.

use std::sync::Arc;

use jiff::Timestamp;
use sapwood_core::clock::Clock;
use sapwood_core::store::StoreResult;
use sqlx::sqlite::SqliteTransactionManager;
use sqlx::{SqlSafeStr as _, SqliteConnection};
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::oneshot;

use crate::db::{Db, stored};
use crate::error::{classify, closed};
use crate::identity::Identity;
use crate::work::Work;

/// The connection that is lent. Dropped, it goes back, and what was not committed is rolled back.
pub(crate) struct Lent {
    /// `None` once it was given back.
    connection: Option<SqliteConnection>,
    back: Option<oneshot::Sender<SqliteConnection>>,
    identity: Option<Identity>,
    clock: Arc<dyn Clock>,
}

impl Lent {
    pub(crate) fn new(
        connection: SqliteConnection,
        back: oneshot::Sender<SqliteConnection>,
        identity: Option<Identity>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { connection: Some(connection), back: Some(back), identity, clock }
    }

    pub(crate) fn connection(&mut self) -> StoreResult<&mut SqliteConnection> {
        self.connection.as_mut().ok_or_else(closed)
    }

    pub(crate) const fn connection_ref(&self) -> Option<&SqliteConnection> {
        self.connection.as_ref()
    }

    /// The time by the store's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How many transactions are open, one within the other.
    pub(crate) fn depth(&self) -> usize {
        self.connection.as_ref().map_or(0, SqliteTransactionManager::get_transaction_depth)
    }

    /// Whether the transaction is still the one that was begun. It is asked once.
    pub(crate) async fn is_as_begun(&mut self) -> StoreResult<bool> {
        let connection = self.connection()?;
        match sqlx::query(include_str!("../queries/transaction_check.sql")).execute(connection).await {
            Ok(_) => Ok(true),
            // There is no such savepoint.
            Err(sqlx::Error::Database(_)) => Ok(false),
            Err(error) => Err(classify(error)),
        }
    }

    pub(crate) async fn commit(&mut self) -> StoreResult<()> {
        SqliteTransactionManager::commit(self.connection()?).await.map_err(classify)?;
        // What was committed to a file that is gone is lost with it.
        self.identity.as_ref().map_or(Ok(()), Identity::check)
    }

    /// Rolls back what is open, and carries work out in a transaction of its own.
    pub(crate) async fn again<W: Work>(&mut self, work: &W) -> StoreResult<W::Answer> {
        let now = stored(self.clock.now());
        let connection = self.connection()?;
        if !roll_back(connection).await {
            return Err(closed());
        }
        begin(connection).await?;
        let answer = work.run(&mut Db::new(connection, now)).await?;
        self.commit().await?;
        Ok(answer)
    }

    /// Gives it back.
    pub(crate) fn give_back(&mut self) {
        if let Some((connection, back)) = self.connection.take().zip(self.back.take()) {
            // The writer may have ended.
            let _ = back.send(connection);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Begins a transaction that is to be lent.
pub(crate) async fn begin(connection: &mut SqliteConnection) -> StoreResult<()> {
    SqliteTransactionManager::begin(connection, Some("begin immediate".into_sql_str())).await.map_err(classify)?;
    sqlx::query(include_str!("../queries/transaction_open.sql")).execute(connection).await.map(drop).map_err(classify)
}

/// Rolls back what is open. Returns whether the connection is as it was before it was lent.
pub(crate) async fn roll_back(connection: &mut SqliteConnection) -> bool {
    while SqliteTransactionManager::get_transaction_depth(connection) > 0 {
        if SqliteTransactionManager::rollback(connection).await.is_ok() {
            continue;
        }
        // The author has ended it by hand, and the driver counts it all the same.
        let again = sqlx::query("begin").execute(&mut *connection).await;
        if again.is_err() || SqliteTransactionManager::rollback(connection).await.is_err() {
            return false;
        }
    }
    true
}
