//! What readers ask: rows, whole trees, lists, keys, outcomes.

use async_trait::async_trait;
use sapwood_core::TreeId;
use sapwood_core::store::{KeyScope, ListedTree, Reading, StoreResult, TreeFilter, TreeOutcome};
use sapwood_core::tree::{TreeRecord, TreeRow, TreeState};
use uuid::Uuid;

use crate::args::Args;
use crate::db::Db;
use crate::deadlines::Timely;
use crate::fields::Fields;
use crate::governing;
use crate::promises;
use crate::rows;
use crate::store::SqliteStore;
use crate::work::Work;

#[async_trait]
impl Reading for SqliteStore {
    async fn tree_row(&self, tree: TreeId) -> StoreResult<Option<TreeRow>> {
        self.read_timely(ReadRow(tree)).await
    }

    async fn tree_read(&self, tree: TreeId) -> StoreResult<Option<TreeRecord>> {
        self.read_timely(ReadTree(tree)).await
    }

    async fn tree_list(&self, filter: &TreeFilter) -> StoreResult<Vec<ListedTree>> {
        self.read_timely(ListTrees(filter.clone())).await
    }

    async fn start_key_find(&self, scope: &KeyScope, key: &str) -> StoreResult<Option<TreeId>> {
        self.read(FindKey { scope: scope.stored(), key: key.to_owned() }).await
    }

    async fn outcome_read(&self, tree: TreeId) -> StoreResult<Option<TreeOutcome>> {
        self.read_timely(ReadOutcome(tree)).await
    }
}

#[derive(Clone)]
struct ReadRow(TreeId);

#[async_trait]
impl Work for ReadRow {
    type Answer = Timely<Option<TreeRow>>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let row = db.one(include_str!("../queries/tree_row.sql"), Args::of(1).tree(self.0)).await?;
        let row = row.as_ref().map(rows::tree_row).transpose()?;
        let late = row.iter().filter(|row| row.is_late(db.now)).map(|row| row.id).collect();
        Ok((row, late))
    }
}

#[derive(Clone)]
struct ReadTree(TreeId);

#[async_trait]
impl Work for ReadTree {
    type Answer = Timely<Option<TreeRecord>>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let of_tree = || Args::of(1).tree(self.0);
        let row = db.one(include_str!("../queries/tree_row.sql"), of_tree()).await?;
        let Some(row) = row else { return Ok((None, Vec::new())) };
        let invocations = db.all(include_str!("../queries/invocation_list.sql"), of_tree()).await?;
        let entries = db.all(include_str!("../queries/journal_list.sql"), of_tree()).await?;
        let timers = db.all(include_str!("../queries/timer_list.sql"), of_tree()).await?;
        let invocations = invocations.iter().map(rows::invocation_row).collect::<StoreResult<Vec<_>>>()?;
        let record = TreeRecord {
            row: rows::tree_row(&row)?,
            invocations,
            entries: entries.iter().map(rows::entry_of_tree).collect::<StoreResult<_>>()?,
            timers: timers.iter().map(rows::timer).collect::<StoreResult<_>>()?,
            requests: governing::list(db, self.0, 0).await?,
            settled: promises::list(db, self.0, 0).await?,
        };
        let late = record.is_late(db.now).then_some(self.0);
        Ok((Some(record), late.into_iter().collect()))
    }
}

#[derive(Clone)]
struct ListTrees(TreeFilter);

#[async_trait]
impl Work for ListTrees {
    type Answer = Timely<Vec<ListedTree>>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let filter = &self.0;
        // No tree has the greatest UUID: its version is not 7.
        let before = filter.before.unwrap_or_else(|| TreeId::from(Uuid::max()));
        let args = Args::of(4).tree(before).opt_int(filter.state.map(TreeState::code)).count(filter.limit);
        let found = match &filter.function {
            Some(function) => {
                db.all(include_str!("../queries/tree_list_by_function.sql"), args.text(function.as_str())).await?
            }
            None => db.all(include_str!("../queries/tree_list.sql"), args).await?,
        };
        let listed = |row| Ok(rows::tree_row_or_id(row)?.map_or_else(ListedTree::Unreadable, ListedTree::Row));
        let listed = found.iter().map(listed).collect::<StoreResult<Vec<_>>>()?;
        let is_late = |listed: &&ListedTree| matches!(listed, ListedTree::Row(row) if row.is_late(db.now));
        let late = listed.iter().filter(is_late).map(ListedTree::id).collect();
        Ok((listed, late))
    }
}

struct FindKey {
    scope: String,
    key: String,
}

#[async_trait]
impl Work for FindKey {
    type Answer = Option<TreeId>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Option<TreeId>> {
        let args = Args::of(2).text(self.scope.as_str()).text(self.key.as_str());
        let row = db.one(include_str!("../queries/start_key_find.sql"), args).await?;
        row.map(|row| Fields::of(&row).tree()).transpose()
    }
}

#[derive(Clone)]
struct ReadOutcome(TreeId);

#[async_trait]
impl Work for ReadOutcome {
    type Answer = Timely<Option<TreeOutcome>>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let args = Args::of(2).tree(self.0).time(db.now);
        let row = db.one(include_str!("../queries/outcome_read.sql"), args).await?;
        let (outcome, is_late) = row.as_ref().map(rows::tree_outcome).transpose()?.unzip();
        Ok((outcome, is_late.filter(|late| *late).map(|_| self.0).into_iter().collect()))
    }
}
