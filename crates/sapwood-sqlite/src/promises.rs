//! External promises: found in the journal, settled in one transaction of the writer.

use async_trait::async_trait;
use sapwood_core::store::{Hint, Promises, Settling, Store, StoreResult, settle};
use sapwood_core::tree::{PromiseRow, SettledPromise, Settlement};
use sapwood_core::{Path, TreeId};

use crate::args::Args;
use crate::db::Db;
use crate::deadlines::{self, Timely};
use crate::governing;
use crate::rows;
use crate::store::SqliteStore;
use crate::work::Work;

#[async_trait]
impl Promises for SqliteStore {
    async fn promise_find(
        &self,
        tree: TreeId,
        path: Option<&Path>,
        name: Option<&str>,
    ) -> StoreResult<Option<Vec<PromiseRow>>> {
        self.read_timely(Find { tree, path: path.cloned(), name: name.map(str::to_owned) }).await
    }

    async fn promise_settle(
        &self,
        tree: TreeId,
        path: &Path,
        name: &str,
        settlement: &Settlement,
    ) -> StoreResult<Option<Settling>> {
        let (path, name, settlement) = (path.clone(), name.to_owned(), settlement.clone());
        let Some((settling, hints)) = self.writer().run(Settle { tree, path, name, settlement }).await? else {
            return Ok(None);
        };
        self.hint(&hints).await?;
        Ok(Some(settling))
    }

    async fn promise_inbox(&self, tree: TreeId, after: u32) -> StoreResult<Vec<SettledPromise>> {
        self.read_timely(ReadInbox { tree, after }).await
    }
}

#[derive(Clone)]
struct Find {
    tree: TreeId,
    path: Option<Path>,
    name: Option<String>,
}

#[async_trait]
impl Work for Find {
    type Answer = Timely<Option<Vec<PromiseRow>>>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let found = find(db, self.tree, self.path.as_ref(), self.name.as_deref()).await?;
        let is_there = !found.is_empty() || deadlines::counters(db, self.tree).await?.is_some();
        let late = found.iter().any(|row| row.is_late(db.now)).then_some(self.tree);
        Ok((is_there.then_some(found), late.into_iter().collect()))
    }
}

async fn find(db: &mut Db<'_>, tree: TreeId, path: Option<&Path>, name: Option<&str>) -> StoreResult<Vec<PromiseRow>> {
    let (first, last) = path.map_or_else(Path::every_range, |path| (path.to_bytes(), path.to_bytes()));
    let args = Args::of(4).tree(tree).blob(&first).blob(&last).opt_text(name);
    let found = db.all(include_str!("../queries/promise_find.sql"), args).await?;
    found.iter().map(rows::promise).collect()
}

struct Settle {
    tree: TreeId,
    path: Path,
    name: String,
    settlement: Settlement,
}

#[async_trait]
impl Work for Settle {
    type Answer = Option<(Settling, Vec<Hint>)>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let Self { tree, path, name, settlement } = self;
        // What is late is not settled any longer (D3).
        let hints = deadlines::time_out(db, *tree).await?;
        let Some((_, applied, inbox)) = deadlines::counters(db, *tree).await? else { return Ok(None) };
        let found = find(db, *tree, Some(path), Some(name)).await?;
        let pending = governing::list(db, *tree, applied).await?;
        let settling = settle(found.first(), &pending, inbox);
        if let (Settling::Stored { inbox }, Some(promise)) = (&settling, found.first()) {
            let args = Args::of(8)
                .tree(*tree)
                .path(path)
                .int(promise.position)
                .text(name.as_str())
                .int(settlement.state.code())
                .blob(&settlement.outcome)
                .int(*inbox)
                .time(db.now);
            db.run(include_str!("../queries/promise_insert.sql"), args).await?;
            db.run(include_str!("../queries/tree_wake.sql"), Args::of(2).tree(*tree).time(db.now)).await?;
        }
        Ok(Some((settling, hints)))
    }
}

#[derive(Clone)]
struct ReadInbox {
    tree: TreeId,
    after: u32,
}

#[async_trait]
impl Work for ReadInbox {
    type Answer = Timely<Vec<SettledPromise>>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let args = Args::of(2).tree(self.tree).time(db.now);
        let late = db.one(include_str!("../queries/promise_late_find.sql"), args).await?.map(|_| self.tree);
        Ok((list(db, self.tree, self.after).await?, late.into_iter().collect()))
    }
}

/// The promises of a tree that were settled after a number of its inbox counter.
pub(crate) async fn list(db: &mut Db<'_>, tree: TreeId, after: u32) -> StoreResult<Vec<SettledPromise>> {
    let args = Args::of(2).tree(tree).int(after);
    let found = db.all(include_str!("../queries/promise_list.sql"), args).await?;
    found.iter().map(rows::settled_promise).collect()
}

/// The promises of a tree that were settled, and that its journal does not have.
pub(crate) async fn unrecorded(db: &mut Db<'_>, tree: TreeId) -> StoreResult<Vec<SettledPromise>> {
    let found = db.all(include_str!("../queries/promise_load.sql"), Args::of(1).tree(tree)).await?;
    found.iter().map(rows::settled_promise).collect()
}
