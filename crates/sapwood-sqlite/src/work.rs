//! A piece of work: what one call asks of the database, carried out whole or not at all.

use async_trait::async_trait;
use sapwood_core::store::StoreResult;

use crate::db::Db;

/// What one call asks of the database.
///
/// Work may be carried out more than once, if its transaction was rolled back. So it consists of data and changes
/// nothing but the database. It refuses (`Fenced`, `Refused`) before it writes, so that others in its transaction go
/// on. After any other error the transaction is rolled back.
#[async_trait]
pub(crate) trait Work: Send + Sync + 'static {
    /// What the caller gets.
    type Answer: Send + 'static;

    /// Whether a reader needs a transaction for it, because it reads with several statements as of one moment.
    const SNAPSHOT: bool = true;

    /// Carries it out.
    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer>;
}
