//! Claiming trees: those that wait for a worker, and those whose worker is not alive.

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::store::{Claimed, Claims, OwnedTree, StoreResult, Suspects};
use sapwood_core::tree::{TreeRow, TreeState};
use sapwood_core::{FunctionVersion, TreeId, WorkerId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;
use crate::fields::Fields;
use crate::membership::require_alive;
use crate::rows;
use crate::work::Work;

static TREE_CLAIM: Bulk = Bulk::each(include_str!("../queries/tree_claim.sql"));
static TREE_TAKE_OVER: Bulk = Bulk::each(include_str!("../queries/tree_take_over.sql"));

/// More takeovers than are ever counted.
const MOST: i64 = 1_000_000;

/// Claims at most `limit` trees. Those whose worker is not alive come first, because they were running before.
pub(crate) struct Claim {
    worker: WorkerId,
    limit: usize,
    /// The versions that this worker has, as a JSON array.
    versions: String,
    suspects: Suspects,
}

impl Claim {
    pub(crate) fn new(worker: WorkerId, limit: usize, versions: &[FunctionVersion], suspects: Suspects) -> Self {
        let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
        Self { worker, limit, versions: serde_json::json!(versions).to_string(), suspects }
    }
}

#[async_trait]
impl Work for Claim {
    type Answer = Claims;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Claims> {
        require_alive(db, self.worker).await?;
        let orphans = self.orphans(db).await?;
        let mut suspects = self.suspects(db, self.suspects.second, 1, 1).await?;
        if suspects.is_empty() {
            suspects = self.suspects(db, self.suspects.further, 2, MOST).await?;
        }
        let ready = self.ready(db, self.limit.saturating_sub(orphans.len())).await?;
        let taken_over = orphans.iter().map(|row| (row, 1)).chain(suspects.iter().map(|row| (row, takeovers(row))));
        let found = taken_over.chain(ready.iter().map(|row| (row, 0)));
        let mut claims = Claims::default();
        let (mut orphaned, mut unowned) = (Vec::new(), Vec::new());
        for (row, takeovers) in found {
            let ids = if takeovers > 0 { &mut orphaned } else { &mut unowned };
            match rows::tree_row_or_id(row)? {
                Ok(row) => {
                    ids.push(row.id);
                    claims.trees.push(Claimed { row: self.claimed(row), takeovers });
                }
                Err(unreadable) => {
                    ids.push(unreadable.id);
                    claims.unreadable.push(unreadable);
                }
            }
        }
        db.each(&TREE_TAKE_OVER, &orphaned, |id, args| args.worker(self.worker).tree(*id)).await?;
        db.each(&TREE_CLAIM, &unowned, |id, args| args.worker(self.worker).tree(*id)).await?;
        claims.next_ready_at = self.next_ready_at(db).await?;
        Ok(claims)
    }
}

impl Claim {
    async fn orphans(&self, db: &mut Db<'_>) -> StoreResult<Vec<SqliteRow>> {
        let args = Args::of(2).text(self.versions.as_str()).count(self.limit);
        db.all(include_str!("../queries/tree_orphan_find.sql"), args).await
    }

    /// Trees that were taken over so often in a row already.
    async fn suspects(&self, db: &mut Db<'_>, limit: usize, least: i64, most: i64) -> StoreResult<Vec<SqliteRow>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let args = Args::of(4).text(self.versions.as_str()).count(limit).int(least).int(most);
        db.all(include_str!("../queries/tree_suspect_find.sql"), args).await
    }

    /// Trees that are due: first those that any worker may go on with, then those that need a version of this one.
    async fn ready(&self, db: &mut Db<'_>, limit: usize) -> StoreResult<Vec<SqliteRow>> {
        let mut found = Vec::new();
        if limit > 0 {
            let args = Args::of(2).time(db.now).count(limit);
            found = db.all(include_str!("../queries/tree_ready_find.sql"), args).await?;
        }
        if found.len() < limit {
            let args = Args::of(3).time(db.now).count(limit - found.len()).text(self.versions.as_str());
            found.extend(db.all(include_str!("../queries/tree_needed_find.sql"), args).await?);
        }
        Ok(found)
    }

    async fn next_ready_at(&self, db: &mut Db<'_>) -> StoreResult<Option<Timestamp>> {
        let args = Args::of(1).text(self.versions.as_str());
        let row = db.one(include_str!("../queries/tree_ready_next.sql"), args).await?;
        // A time that cannot be read is not due before the next poll, which looks again.
        Ok(row.and_then(|row| Fields::of(&row).opt_time().ok().flatten()))
    }

    /// A tree's row as `tree_claim` has left it.
    fn claimed(&self, found: TreeRow) -> TreeRow {
        TreeRow {
            owner: Some(self.worker),
            revision: found.revision + 1,
            state: if found.state.is_settled() { found.state } else { TreeState::Running },
            ready_at: None,
            needs: None,
            aside: None,
            ..found
        }
    }
}

/// The takeovers of a suspect, with the one that is being made. A count that cannot be read is no reason to suspect more.
fn takeovers(row: &SqliteRow) -> u32 {
    row.try_get::<i64, _>("takeovers").ok().and_then(|before| u32::try_from(before).ok()).unwrap_or(0).saturating_add(1)
}

/// The revisions of those of these trees that are there.
pub(crate) struct ReadRevisions(pub(crate) Vec<TreeId>);

#[async_trait]
impl Work for ReadRevisions {
    type Answer = Vec<(TreeId, u64)>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<(TreeId, u64)>> {
        let mut revisions = Vec::with_capacity(self.0.len());
        for tree in &self.0 {
            if let Some(row) = db.one(include_str!("../queries/tree_revision.sql"), Args::of(1).tree(*tree)).await? {
                revisions.push((*tree, Fields::of(&row).int()?.cast_unsigned()));
            }
        }
        Ok(revisions)
    }
}

/// Sets a tree aside that its owner cannot drive.
pub(crate) struct SetAside {
    pub(crate) worker: WorkerId,
    pub(crate) tree: TreeId,
    pub(crate) reason: String,
}

#[async_trait]
impl Work for SetAside {
    type Answer = bool;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<bool> {
        require_alive(db, self.worker).await?;
        let args = Args::of(3).worker(self.worker).tree(self.tree).text(self.reason.as_str());
        Ok(db.run(include_str!("../queries/tree_set_aside.sql"), args).await? > 0)
    }
}

/// The open trees of a worker.
pub(crate) struct ListOwned {
    pub(crate) worker: WorkerId,
    pub(crate) after: Option<TreeId>,
    pub(crate) limit: usize,
}

#[async_trait]
impl Work for ListOwned {
    type Answer = Vec<OwnedTree>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<OwnedTree>> {
        let after = self.after.unwrap_or_else(|| TreeId::from(Uuid::nil()));
        let args = Args::of(3).worker(self.worker).tree(after).count(self.limit);
        let found = db.all(include_str!("../queries/tree_list_owned.sql"), args).await?;
        let owned = found.iter().map(|row| {
            let mut fields = Fields::of(row);
            let (id, revision) = (fields.tree()?, fields.int()?.cast_unsigned());
            Ok(OwnedTree { id, revision, control: fields.number()?, inbox: fields.number()? })
        });
        owned.collect()
    }
}
