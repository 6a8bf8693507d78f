//! Lanes of the outbox: who publishes each, how far, and the rows themselves.

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{LaneLease, LaneMove, OutboxRow, StoreResult};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;
use crate::fields::Fields;
use crate::membership::require_alive;
use crate::records;
use crate::work::Work;

static LANE_ADVANCE: Bulk = Bulk::each(include_str!("../queries/lane_advance.sql"));

/// Leases lanes that no live worker publishes.
pub(crate) struct ClaimLanes {
    pub(crate) worker: WorkerId,
    pub(crate) limit: u16,
}

#[async_trait]
impl Work for ClaimLanes {
    type Answer = Vec<LaneLease>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<LaneLease>> {
        require_alive(db, self.worker).await?;
        let args = Args::of(2).worker(self.worker).int(self.limit);
        db.run(include_str!("../queries/lane_claim.sql"), args).await?;
        let rows = db.all(include_str!("../queries/lane_list.sql"), Args::of(1).worker(self.worker)).await?;
        rows.iter()
            .map(|row| {
                let mut fields = Fields::of(row);
                Ok(LaneLease { lane: fields.number()?, epoch: fields.int()?, cursor: fields.int()? })
            })
            .collect()
    }
}

/// Writes cursors back.
pub(crate) struct AdvanceLanes {
    pub(crate) worker: WorkerId,
    pub(crate) moves: Vec<LaneMove>,
}

#[async_trait]
impl Work for AdvanceLanes {
    type Answer = Vec<u16>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<u16>> {
        let advanced = db.each(&LANE_ADVANCE, &self.moves, |step, args| {
            args.int(step.cursor).int(step.lane).worker(self.worker).int(step.epoch)
        });
        let advanced = advanced.await?;
        Ok(self.moves.iter().zip(advanced).filter(|(_, moved)| !moved).map(|(step, _)| step.lane).collect())
    }
}

/// Gives all lanes of a worker back.
pub(crate) struct ReleaseLanes(pub(crate) WorkerId);

#[async_trait]
impl Work for ReleaseLanes {
    type Answer = ();

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<()> {
        db.run(include_str!("../queries/lane_release.sql"), Args::of(1).worker(self.0)).await.map(|_| ())
    }
}

/// Reads rows of a lane.
pub(crate) struct ReadOutbox {
    pub(crate) lane: u16,
    pub(crate) after: i64,
    pub(crate) limit: usize,
}

#[async_trait]
impl Work for ReadOutbox {
    type Answer = Vec<OutboxRow>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<OutboxRow>> {
        let args = Args::of(3).int(self.lane).int(self.after).count(self.limit);
        let rows = db.all(include_str!("../queries/outbox_read.sql"), args).await?;
        rows.iter().map(|row| records::outbox_row(self.lane, row)).collect()
    }
}
