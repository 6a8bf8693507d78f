//! Reads that show no promise pending whose deadline has passed: what is late is settled first, under the lock of the tree's
//! row, and then read anew (D3).

use jiff::Timestamp;
use sapwood_core::TreeId;
use sapwood_core::store::{Hint, Store, StoreResult};
use sapwood_core::tree::{InvocationRow, PromiseState};
use sqlx::{Connection, PgConnection};

use crate::fields::Fields;
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
        let mut hints = Vec::new();
        for tree in late {
            hints.extend(self.time_out(*tree).await?.map(|control| Hint::Governed(*tree, control)));
        }
        self.hint(&hints).await?;
        Ok(true)
    }

    /// Settles what is late in a tree; tells its control counter if anything was.
    async fn time_out(&self, tree: TreeId) -> StoreResult<Option<u32>> {
        let pool = &self.readers;
        let lock = sqlx::query(pool.sql(include_str!("../queries/tree_lock.sql"))).bind(tree.uuid());
        let settle = sqlx::query(pool.sql(include_str!("../queries/tree_time_out.sql"))).bind(tree.uuid());
        let work = async |connection: &mut PgConnection| {
            let mut locked = connection.begin().await?;
            lock.fetch_optional(&mut *locked).await?;
            let row = settle.fetch_optional(&mut *locked).await?;
            locked.commit().await?;
            Ok(row)
        };
        let row = pool.run(DOING, work).await?;
        row.map(|row| Fields::of(&row, DOING).unsigned("control")).transpose()
    }
}

/// Whether an invocation goes forward although its deadline has passed.
pub(crate) fn is_late(row: &InvocationRow, now: Timestamp) -> bool {
    row.invocation.state.promise == PromiseState::Pending && row.invocation.deadline.is_some_and(|at| at <= now)
}
