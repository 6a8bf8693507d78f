//! Reads that show no promise pending whose deadline has passed: what is late is settled first, under the lock of the tree's
//! row, and then read anew (D3).

use sapwood_core::TreeId;
use sapwood_core::store::{Hint, Store, StoreResult, TIMED_OUT};
use sapwood_core::tree::PromiseState;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres};

use crate::fields::Fields;
use crate::pool::Pool;
use crate::store::PostgresStore;

const DOING: &str = "settle by a deadline";

/// What was read, and the trees in which something was late.
pub(crate) type Timely<T> = (T, Vec<TreeId>);

impl PostgresStore {
    /// Settles what is late in these trees; tells whether they are to be read again.
    pub(crate) async fn settles(&self, late: &[TreeId]) -> StoreResult<bool> {
        if late.is_empty() {
            return Ok(false);
        }
        for tree in late {
            self.time_out(&self.readers, *tree).await?;
        }
        Ok(true)
    }

    /// Settles what is late in a tree.
    pub(crate) async fn time_out(&self, pool: &Pool, tree: TreeId) -> StoreResult<()> {
        let lock = sqlx::query(pool.sql(include_str!("../queries/tree_lock.sql"))).bind(tree.uuid());
        let late = Late::of(pool, tree);
        let work = async |connection: &mut PgConnection| {
            let mut locked = connection.begin().await?;
            lock.fetch_optional(&mut *locked).await?;
            let timed_out = late.settle(&mut locked).await?;
            locked.commit().await?;
            Ok(timed_out)
        };
        let timed_out = pool.run(DOING, work).await?;
        self.hint(&timed_out.hints(tree)?).await
    }
}

/// Settles what is late in a tree whose row is locked: promises first, which have earlier deadlines than their functions.
pub(crate) struct Late<'q> {
    promises: Query<'q, Postgres, PgArguments>,
    invocations: Query<'q, Postgres, PgArguments>,
}

impl<'q> Late<'q> {
    pub(crate) fn of(pool: &'q Pool, tree: TreeId) -> Self {
        let promises = sqlx::query(pool.sql(include_str!("../queries/promise_time_out.sql")))
            .bind(tree.uuid())
            .bind(TIMED_OUT)
            .bind(PromiseState::TimedOut.code());
        let invocations = sqlx::query(pool.sql(include_str!("../queries/tree_time_out.sql"))).bind(tree.uuid());
        Self { promises, invocations }
    }

    pub(crate) async fn settle(self, locked: &mut PgConnection) -> sqlx::Result<TimedOut> {
        let inbox = self.promises.fetch_optional(&mut *locked).await?;
        let control = self.invocations.fetch_optional(&mut *locked).await?;
        Ok(TimedOut { inbox, control })
    }
}

/// The counters of a tree in which something timed out.
pub(crate) struct TimedOut {
    inbox: Option<PgRow>,
    control: Option<PgRow>,
}

impl TimedOut {
    /// The inbox counter, if promises timed out.
    pub(crate) fn inbox(&self) -> StoreResult<Option<u32>> {
        self.inbox.as_ref().map(|row| Fields::of(row, DOING).unsigned("inbox")).transpose()
    }

    /// What others are told of it.
    pub(crate) fn hints(&self, tree: TreeId) -> StoreResult<Vec<Hint>> {
        let control = self.control.as_ref().map(|row| Fields::of(row, DOING).unsigned("control")).transpose()?;
        let inbox = self.inbox()?.map(|inbox| Hint::Inbox(tree, inbox));
        Ok(inbox.into_iter().chain(control.map(|control| Hint::Governed(tree, control))).collect())
    }
}
