//! Reads that show no promise pending whose deadline has passed: what is late is settled first, by the one writer, and then
//! read anew (D3).

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::store::{Hint, Store, StoreResult};
use sapwood_core::tree::{InvocationRow, PromiseState};
use sapwood_core::{Path, TreeId};

use crate::args::Args;
use crate::db::Db;
use crate::fields::Fields;
use crate::store::SqliteStore;
use crate::work::Work;

/// What was read, and the trees in which something was late.
pub(crate) type Timely<T> = (T, Vec<TreeId>);

impl SqliteStore {
    /// Reads, and if something was late settles it and reads again.
    pub(crate) async fn read_timely<T: Send + 'static, W: Work<Answer = Timely<T>> + Clone>(
        &self,
        work: W,
    ) -> StoreResult<T> {
        let (read, late) = self.read(work.clone()).await?;
        if late.is_empty() {
            return Ok(read);
        }
        let settled = self.writer().run(TimeOut(late)).await?;
        let hints: Vec<Hint> = settled.into_iter().map(|(tree, control)| Hint::Governed(tree, control)).collect();
        self.hint(&hints).await?;
        Ok(self.read(work).await?.0)
    }
}

/// Whether an invocation goes forward although its deadline has passed.
pub(crate) fn is_late(row: &InvocationRow, now: Timestamp) -> bool {
    row.invocation.state.promise == PromiseState::Pending && row.invocation.deadline.is_some_and(|at| at <= now)
}

/// Settles what is late in these trees; tells the control counter of each that had something.
struct TimeOut(Vec<TreeId>);

#[async_trait]
impl Work for TimeOut {
    type Answer = Vec<(TreeId, u32)>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let mut settled = Vec::new();
        for tree in &self.0 {
            settled.extend(time_out(db, *tree).await?.map(|control| (*tree, control)));
        }
        Ok(settled)
    }
}

/// Settles what is late in a tree; tells its control counter if anything was.
pub(crate) async fn time_out(db: &mut Db<'_>, tree: TreeId) -> StoreResult<Option<u32>> {
    let now = db.now;
    let args = Args::of(2).tree(tree).time(now);
    let late = db.all(include_str!("../queries/invocation_late_find.sql"), args).await?;
    let late = late.iter().map(|row| Fields::of(row).path()).collect::<StoreResult<Vec<Path>>>()?;
    if late.is_empty() {
        return Ok(None);
    }
    for path in &late {
        let of_path = || Args::of(3).tree(tree).path(path).time(now);
        db.run(include_str!("../queries/invocation_time_out.sql"), of_path()).await?;
        db.run(include_str!("../queries/timer_clear_all.sql"), Args::of(2).tree(tree).path(path)).await?;
        db.run(include_str!("../queries/tree_time_out.sql"), of_path()).await?;
    }
    // As a request does, so that no commit goes before the owner has read what was settled.
    db.run(include_str!("../queries/tree_govern.sql"), Args::of(2).tree(tree).time(now)).await?;
    let row = db.one(include_str!("../queries/tree_lock.sql"), Args::of(1).tree(tree)).await?;
    row.map(|row| Fields::of(&row).number()).transpose()
}
