//! Transactions that a function's author shares with the journal: what a transactional step writes, and that it has ended,
//! are one commit.

use std::any::Any;

use async_trait::async_trait;

use super::{Recovered, StoreError, StoreResult, Turn, Verdict};

/// A kind of database in which authors write. Implemented by the stores' crates, for a type without values.
pub trait Database: Send + Sync + 'static {
    /// What an author's SQL runs on, within a transaction.
    type Connection: Send + 'static;
    /// What the database's driver reports.
    type Error: std::error::Error + Send + Sync + 'static;
    /// The kind of store that is on it, as [`StoreInfo::kind`](super::StoreInfo::kind) says it.
    const KIND: &'static str;
}

/// Transactions of authors, on connections of their own.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// Begins a transaction, once a connection is free. If the caller stops waiting, nothing has begun.
    ///
    /// # Errors
    /// As of [`Committer::commit`](super::Committer::commit), but nothing was applied.
    async fn begin(&self) -> StoreResult<Box<dyn StepTransaction>>;
}

/// A transaction that is open. Dropped, it is rolled back.
#[async_trait]
pub trait StepTransaction: Send {
    /// The [`Database::Connection`] of the store's own kind, within the transaction.
    fn connection(&self) -> &(dyn Any + Send);

    /// The same, to be worked on.
    fn connection_mut(&mut self) -> &mut (dyn Any + Send);

    /// Judges what the author did, when all of it is done: whether the transaction is still as it was begun, and what the
    /// database would check only as it commits. After an error it can only be rolled back.
    async fn prepare(&mut self) -> Result<(), Unprepared>;

    /// Commits a turn together with what the author did: all or nothing. After another verdict than
    /// [`Busy`](Verdict::Busy), and after an error, the transaction is over.
    ///
    /// # Errors
    /// As of [`Committer::commit`](super::Committer::commit); if the outcome is unknown, ask [`Self::recover`].
    async fn commit(&mut self, turn: &Turn) -> StoreResult<Verdict>;

    /// Finds out what became of a turn whose outcome is unknown, once nothing of the transaction is under way.
    ///
    /// # Errors
    /// As of [`Committer::recover`](super::Committer::recover).
    async fn recover(&mut self, turn: &Turn) -> StoreResult<Recovered>;

    /// Ends it without a trace.
    ///
    /// # Errors
    /// [`Connection`](super::StoreErrorKind::Connection) if its connection was lost before: it has no trace then either.
    async fn roll_back(self: Box<Self>) -> StoreResult<()>;
}

/// Why the work of an author cannot be committed.
#[derive(Debug)]
pub enum Unprepared {
    /// The author did what no transactional step may do; in words.
    Misused(String),
    /// The database refuses it, with the [`Database::Error`] of the store's own kind.
    Refused(Box<dyn Any + Send>),
    /// The store's trouble: nothing was applied.
    Store(StoreError),
}
