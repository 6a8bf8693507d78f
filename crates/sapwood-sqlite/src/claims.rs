//! Claiming trees: those that wait for a worker, and those whose worker is not alive.

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::store::{Claimed, Claims, StoreResult};
use sapwood_core::tree::{TreeRow, TreeState};
use sapwood_core::{FunctionVersion, TreeId, WorkerId};
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

/// Claims at most `limit` trees. Those whose worker is not alive come first, because they were running before.
pub(crate) struct Claim {
    worker: WorkerId,
    limit: usize,
    /// The versions that this worker has, as a JSON array.
    versions: String,
}

impl Claim {
    pub(crate) fn new(worker: WorkerId, limit: usize, versions: &[FunctionVersion]) -> Self {
        let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
        Self { worker, limit, versions: serde_json::json!(versions).to_string() }
    }
}

#[async_trait]
impl Work for Claim {
    type Answer = Claims;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Claims> {
        require_alive(db, self.worker).await?;
        let orphans = self.orphans(db).await?;
        let ready = self.ready(db, self.limit.saturating_sub(orphans.len())).await?;
        let found = orphans.iter().map(|row| (row, true)).chain(ready.iter().map(|row| (row, false)));
        let mut claims = Claims::default();
        let mut ids = Vec::with_capacity(orphans.len() + ready.len());
        for (row, taken_over) in found {
            match rows::tree_row_or_id(row)? {
                Ok(row) => {
                    ids.push(row.id);
                    claims.trees.push(Claimed { row: self.claimed(row), taken_over });
                }
                Err(unreadable) => {
                    ids.push(unreadable.id);
                    claims.unreadable.push(unreadable);
                }
            }
        }
        db.each(&TREE_CLAIM, &ids, |id, args| args.worker(self.worker).tree(*id)).await?;
        claims.next_ready_at = self.next_ready_at(db).await?;
        Ok(claims)
    }
}

impl Claim {
    async fn orphans(&self, db: &mut Db<'_>) -> StoreResult<Vec<SqliteRow>> {
        let args = Args::of(2).text(self.versions.as_str()).count(self.limit);
        db.all(include_str!("../queries/tree_orphan_find.sql"), args).await
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
            state: TreeState::Running,
            ready_at: None,
            needs: None,
            aside: None,
            ..found
        }
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
    type Answer = Vec<(TreeId, u64)>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<(TreeId, u64)>> {
        let after = self.after.unwrap_or_else(|| TreeId::from(Uuid::nil()));
        let args = Args::of(3).worker(self.worker).tree(after).count(self.limit);
        let found = db.all(include_str!("../queries/tree_list_owned.sql"), args).await?;
        let owned = found.iter().map(|row| {
            let mut fields = Fields::of(row);
            Ok((fields.tree()?, fields.int()?.cast_unsigned()))
        });
        owned.collect()
    }
}
