//! The outbox: lanes, and the rows that wait in them to be published.
//!
//! The one writer gives the `seq`s of a lane within the commit that inserts the rows. So within a lane the order of
//! `seq` is the order of commits, and a reader that goes on after the last `seq` it saw misses nothing.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{LaneAdvance, LaneLease, OrderedRows, Outbox, OutboxEvent, OutboxRow, StoreResult};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::db::Db;
use crate::error::permanent;
use crate::fields::Fields;
use crate::membership::require_alive;
use crate::rows;
use crate::store::SqliteStore;
use crate::work::Work;

static LANE_ADVANCE: Bulk = Bulk::each(include_str!("../queries/lane_advance.sql"));
static OUTBOX_INSERT: Bulk = Bulk::rows(include_str!("../queries/outbox_insert.sql"));

#[async_trait]
impl Outbox for SqliteStore {
    async fn lane_claim(&self, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>> {
        self.writer().run(ClaimLanes { worker, limit }).await
    }

    async fn outbox_read(&self, lane: u16, after: i64, limit: usize) -> StoreResult<OrderedRows<OutboxRow>> {
        self.read(ReadOutbox { lane, after, limit }).await
    }

    async fn lane_advance(&self, worker: WorkerId, advances: &[LaneAdvance]) -> StoreResult<Vec<u16>> {
        self.writer().run(AdvanceLanes { worker, advances: advances.to_vec() }).await
    }

    async fn lane_release(&self, worker: WorkerId) -> StoreResult<()> {
        self.writer().run(ReleaseLanes(worker)).await
    }
}

/// Inserts the events of turns, in order.
pub(crate) async fn emit(db: &mut Db<'_>, events: &[&OutboxEvent]) -> StoreResult<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut next = take_seqs(db, events).await?;
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        let seq = next.get_mut(&event.lane).ok_or_else(|| {
            permanent(format!("event {} is for lane {}, which the outbox does not have", event.id, event.lane))
        })?;
        rows.push((*seq, *event));
        *seq += 1;
    }
    db.insert(&OUTBOX_INSERT, &rows, |(seq, event), args| {
        args.int(event.lane)
            .int(*seq)
            .text(event.id.as_str())
            .text(event.topic.as_str())
            .text(event.key.as_str())
            .text(event.cloud_type.as_str())
            .text(event.source.as_str())
            .time(event.time)
            .tree(event.tree)
            .text(event.correlation.as_str())
            .text(event.causation.as_str())
            .opt_text(event.traceparent.as_deref())
            .blob(&event.content)
    })
    .await
}

/// Takes `seq`s in the lanes of events, one per event; returns the first one of each lane.
async fn take_seqs(db: &mut Db<'_>, events: &[&OutboxEvent]) -> StoreResult<BTreeMap<u16, i64>> {
    let mut wanted = BTreeMap::<u16, i64>::new();
    for event in events {
        *wanted.entry(event.lane).or_default() += 1;
    }
    let pairs: Vec<_> = wanted.iter().collect();
    let args = Args::of(1).text(serde_json::json!(pairs).to_string());
    let found = db.all(include_str!("../queries/lane_extend.sql"), args).await?;
    found
        .iter()
        .map(|row| {
            let mut fields = Fields::of(row);
            let (lane, last) = (fields.number()?, fields.int()?);
            Ok((lane, last + 1 - wanted.get(&lane).copied().unwrap_or_default()))
        })
        .collect()
}

struct ClaimLanes {
    worker: WorkerId,
    limit: u16,
}

#[async_trait]
impl Work for ClaimLanes {
    type Answer = Vec<LaneLease>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<LaneLease>> {
        require_alive(db, self.worker).await?;
        let args = Args::of(2).worker(self.worker).int(self.limit);
        db.run(include_str!("../queries/lane_claim.sql"), args).await?;
        let found = db.all(include_str!("../queries/lane_list.sql"), Args::of(1).worker(self.worker)).await?;
        found
            .iter()
            .map(|row| {
                let mut fields = Fields::of(row);
                Ok(LaneLease { lane: fields.number()?, epoch: fields.int()?, published: fields.int()? })
            })
            .collect()
    }
}

struct AdvanceLanes {
    worker: WorkerId,
    advances: Vec<LaneAdvance>,
}

#[async_trait]
impl Work for AdvanceLanes {
    type Answer = Vec<u16>;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Vec<u16>> {
        let advanced = db.each(&LANE_ADVANCE, &self.advances, |advance, args| {
            args.int(advance.published)
                .int(advance.lane)
                .worker(self.worker)
                .int(advance.epoch)
                .int(advance.lane)
                .int(advance.published)
        });
        let advanced = advanced.await?;
        let lost = self.advances.iter().zip(advanced).filter(|(_, advanced)| !advanced);
        Ok(lost.map(|(advance, _)| advance.lane).collect())
    }
}

struct ReleaseLanes(WorkerId);

#[async_trait]
impl Work for ReleaseLanes {
    type Answer = ();

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<()> {
        db.run(include_str!("../queries/lane_release.sql"), Args::of(1).worker(self.0)).await.map(drop)
    }
}

struct ReadOutbox {
    lane: u16,
    after: i64,
    limit: usize,
}

#[async_trait]
impl Work for ReadOutbox {
    type Answer = OrderedRows<OutboxRow>;
    const SNAPSHOT: bool = false;

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<OrderedRows<OutboxRow>> {
        let args = Args::of(3).int(self.lane).int(self.after).count(self.limit);
        let found = db.all(include_str!("../queries/outbox_read.sql"), args).await?;
        rows::ordered(&found, |row| rows::outbox_row(self.lane, row))
    }
}
