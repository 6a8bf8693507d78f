//! Claims: trees that wait for a worker, and those whose worker is dead.

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::WorkerId;
use sapwood_core::store::{Claimed, Claims, StoreResult};
use sapwood_core::tree::{TreeRow, TreeState};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;
use crate::fields::Fields;
use crate::membership::require_alive;
use crate::records;
use crate::work::Work;

static TREE_CLAIM: Bulk = Bulk::each(include_str!("../queries/tree_claim.sql"));

/// Claims at most `limit` trees. What dead workers left comes first: it ran before.
pub(crate) struct Claim {
    pub(crate) worker: WorkerId,
    pub(crate) limit: usize,
    /// The versions this worker has, as a JSON array.
    pub(crate) versions: String,
}

#[async_trait]
impl Work for Claim {
    type Answer = Claims;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Claims> {
        require_alive(db, self.worker).await?;
        let mut trees = self.orphans(db).await?;
        let left = self.limit.saturating_sub(trees.len());
        trees.extend(self.ready(db, left).await?);
        db.each(&TREE_CLAIM, &trees, |tree, args| args.worker(self.worker).tree(tree.row.id)).await?;
        let trees = trees.into_iter().map(|tree| self.claimed(tree)).collect();
        Ok(Claims { trees, next_ready_at: self.next_ready_at(db).await? })
    }
}

impl Claim {
    async fn orphans(&self, db: &mut Db<'_>) -> StoreResult<Vec<Claimed>> {
        let args = Args::of(2).text(self.versions.as_str()).count(self.limit);
        let rows = db.all(include_str!("../queries/tree_orphan_find.sql"), args).await?;
        rows.iter().map(|row| Ok(Claimed { row: records::tree_row(row)?, taken_over: true })).collect()
    }

    /// What is due: first what any worker may go on with, then what waits for a version of this one.
    async fn ready(&self, db: &mut Db<'_>, limit: usize) -> StoreResult<Vec<Claimed>> {
        let mut rows = Vec::new();
        if limit > 0 {
            let args = Args::of(2).time(db.now).count(limit);
            rows = db.all(include_str!("../queries/tree_ready_find.sql"), args).await?;
        }
        if rows.len() < limit {
            let args = Args::of(3).time(db.now).count(limit - rows.len()).text(self.versions.as_str());
            rows.extend(db.all(include_str!("../queries/tree_needed_find.sql"), args).await?);
        }
        rows.iter().map(|row| Ok(Claimed { row: records::tree_row(row)?, taken_over: false })).collect()
    }

    async fn next_ready_at(&self, db: &mut Db<'_>) -> StoreResult<Option<Timestamp>> {
        let args = Args::of(1).text(self.versions.as_str());
        let row = db.one(include_str!("../queries/tree_ready_next.sql"), args).await?;
        row.map_or(Ok(None), |row| Fields::of(&row).opt_time())
    }

    /// The row as `tree_claim` has made it.
    fn claimed(&self, found: Claimed) -> Claimed {
        let row = TreeRow {
            owner: Some(self.worker),
            revision: found.row.revision + 1,
            state: TreeState::Running,
            ready_at: None,
            needs: None,
            ..found.row
        };
        Claimed { row, ..found }
    }
}
