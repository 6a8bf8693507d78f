//! Reads that show no promise pending whose deadline has passed: what is late is settled first, by the one writer, and then
//! read anew (D3).

use async_trait::async_trait;
use sapwood_core::store::{Hint, Store, StoreResult, TIMED_OUT};
use sapwood_core::tree::PromiseState;
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
        let hints = self.writer().run(TimeOut(late)).await?;
        self.hint(&hints).await?;
        Ok(self.read(work).await?.0)
    }
}

/// Settles what is late in these trees; says what others are told of it.
struct TimeOut(Vec<TreeId>);

#[async_trait]
impl Work for TimeOut {
    type Answer = Vec<Hint>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let mut hints = Vec::new();
        for tree in &self.0 {
            hints.extend(time_out(db, *tree).await?);
        }
        Ok(hints)
    }
}

/// Settles what is late in a tree: promises first, which have earlier deadlines than their functions. Says what others are
/// told of it.
pub(crate) async fn time_out(db: &mut Db<'_>, tree: TreeId) -> StoreResult<Vec<Hint>> {
    let mut hints = Vec::new();
    hints.extend(time_out_promises(db, tree).await?.map(|inbox| Hint::Inbox(tree, inbox)));
    hints.extend(time_out_invocations(db, tree).await?.map(|control| Hint::Governed(tree, control)));
    Ok(hints)
}

/// Tells the inbox counter if any promise was late.
async fn time_out_promises(db: &mut Db<'_>, tree: TreeId) -> StoreResult<Option<u32>> {
    let now = db.now;
    let args = Args::of(2).tree(tree).time(now);
    let late = db.all(include_str!("../queries/promise_late_find.sql"), args).await?;
    let Some((_, _, mut inbox)) = counters(db, tree).await?.filter(|_| !late.is_empty()) else { return Ok(None) };
    for row in &late {
        let mut fields = Fields::of(row);
        let (path, position, name) = (fields.path()?, fields.number::<u32>()?, fields.text()?);
        inbox = inbox.wrapping_add(1);
        let args = Args::of(8)
            .tree(tree)
            .path(&path)
            .int(position)
            .text(name.as_str())
            .int(PromiseState::TimedOut.code())
            .blob(TIMED_OUT)
            .int(inbox)
            .time(now);
        db.run(include_str!("../queries/promise_insert.sql"), args).await?;
        db.run(include_str!("../queries/tree_wake.sql"), Args::of(2).tree(tree).time(now)).await?;
    }
    Ok(Some(inbox))
}

/// Tells the control counter if any invocation was late.
async fn time_out_invocations(db: &mut Db<'_>, tree: TreeId) -> StoreResult<Option<u32>> {
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
    Ok(counters(db, tree).await?.map(|(control, ..)| control))
}

/// The counters of a tree: of its requests, of those that were carried out, and of its inbox.
pub(crate) async fn counters(db: &mut Db<'_>, tree: TreeId) -> StoreResult<Option<(u32, u32, u32)>> {
    let row = db.one(include_str!("../queries/tree_lock.sql"), Args::of(1).tree(tree)).await?;
    let counters = |row| {
        let mut fields = Fields::of(row);
        Ok((fields.number()?, fields.number()?, fields.number()?))
    };
    row.as_ref().map(counters).transpose()
}
