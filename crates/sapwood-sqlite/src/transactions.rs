//! Transactions of authors: what a transactional step writes, and the turn that records it, are one commit (T1).
//!
//! SQLite has one writer, so the author has the writer's connection, and everything else that writes waits meanwhile.

use std::any::Any;

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{Database, Recovered, StepTransaction, StoreResult, Transactions, Turn, Unprepared, Verdict};
use sqlx::SqliteConnection;

use crate::committer::{Commit, Recover};
use crate::db::{Db, stored};
use crate::lent::Lent;
use crate::work::Work;
use crate::writer::Writer;

/// SQLite, as where authors write: `#[dependencies(of = Orders, database = sapwood::Sqlite)]`.
#[derive(Debug, Clone, Copy)]
pub struct Sqlite;

impl Database for Sqlite {
    type Connection = SqliteConnection;
    type Error = sqlx::Error;
    const KIND: &'static str = "sqlite";
}

pub(crate) struct SqliteTransactions {
    writer: Writer,
    worker: WorkerId,
    fence: u16,
}

impl SqliteTransactions {
    pub(crate) const fn new(writer: Writer, worker: WorkerId, fence: u16) -> Self {
        Self { writer, worker, fence }
    }
}

#[async_trait]
impl Transactions for SqliteTransactions {
    async fn begin(&self) -> StoreResult<Box<dyn StepTransaction>> {
        let lent = self.writer.borrow().await?;
        let (worker, fence) = (self.worker, self.fence);
        Ok(Box::new(SqliteTransaction { lent, writer: self.writer.clone(), worker, fence, none: () }))
    }
}

struct SqliteTransaction {
    lent: Lent,
    writer: Writer,
    worker: WorkerId,
    fence: u16,
    /// What is lent if the connection is gone.
    none: (),
}

#[async_trait]
impl StepTransaction for SqliteTransaction {
    fn connection(&self) -> &(dyn Any + Send) {
        match self.lent.connection_ref() {
            Some(connection) => connection,
            None => &self.none,
        }
    }

    fn connection_mut(&mut self) -> &mut (dyn Any + Send) {
        match self.lent.connection() {
            Ok(connection) => connection,
            Err(_) => &mut self.none,
        }
    }

    async fn prepare(&mut self) -> Result<(), Unprepared> {
        // Asked first: the end of a transaction within that was dropped is queued before it.
        let is_as_begun = self.lent.is_as_begun().await.map_err(Unprepared::Store)?;
        let misuse = match (is_as_begun, self.lent.depth()) {
            (true, 0 | 1) => return Ok(()),
            (true, _) => "it leaves a transaction open that it began within the step's",
            (false, _) => "it ends the transaction by itself: the step does that",
        };
        Err(Unprepared::Misused(misuse.to_owned()))
    }

    async fn commit(&mut self, turn: &Turn) -> StoreResult<Verdict> {
        let now = stored(self.lent.now());
        let commit = Commit { worker: self.worker, fence: self.fence, incarnation: None, turns: vec![turn.clone()] };
        let mut db = Db::new(self.lent.connection()?, now);
        let committed = commit.run(&mut db).await;
        match committed?.1.first() {
            Some(Verdict::Committed) => self.lent.commit().await.map(|()| Verdict::Committed),
            _ => Ok(Verdict::Refused),
        }
    }

    async fn recover(&mut self, turn: &Turn) -> StoreResult<Recovered> {
        let recover = Recover::of(self.worker, self.fence, std::slice::from_ref(turn));
        // On the same connection, if it still is one: who gets it next may be another step of the tree, which waits for this
        // answer.
        let recovered = match self.lent.again(&recover).await {
            Ok(recovered) => Ok(recovered),
            Err(_) => {
                self.lent.give_back();
                self.writer.run(recover).await
            }
        };
        self.lent.give_back();
        let (_, recovered) = recovered?;
        Ok(recovered.first().copied().unwrap_or(Recovered::Refused))
    }

    async fn roll_back(self: Box<Self>) -> StoreResult<()> {
        // The writer does it, as it gets its connection back.
        Ok(())
    }
}
