//! The outbox: lanes, and the rows that wait in them to be published.
//!
//! Rows are given their `seq` under the lock of the commit that writes them. So within a lane the order of `seq` is the
//! order of commits, and a reader that goes on after the last `seq` it saw misses nothing.

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{LaneAdvance, LaneLease, OrderedRows, Outbox, OutboxEvent, OutboxRow, StoreResult};

use crate::state::{Lane, State};
use crate::store::MemoryStore;
use crate::time::stored;

#[async_trait]
impl Outbox for MemoryStore {
    async fn lane_claim(&self, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>> {
        self.handle().act(|state, _| claim(state, worker, limit))
    }

    async fn outbox_read(&self, lane: u16, after: i64, limit: usize) -> StoreResult<OrderedRows<OutboxRow>> {
        self.handle().act(|state, _| Ok(read(&state.lanes, lane, after, limit)))
    }

    async fn lane_advance(&self, worker: WorkerId, advances: &[LaneAdvance]) -> StoreResult<Vec<u16>> {
        self.handle().act(|state, _| {
            let lost = advances.iter().filter(|advance| !move_on(&mut state.lanes, worker, advance));
            Ok(lost.map(|advance| advance.lane).collect())
        })
    }

    async fn lane_release(&self, worker: WorkerId) -> StoreResult<()> {
        self.handle().act(|state, _| {
            let held = state.lanes.iter_mut().filter(|lane| lane.publisher == Some(worker));
            held.for_each(|lane| lane.publisher = None);
            Ok(())
        })
    }
}

/// Writes the events of a turn, in order, whose lanes were checked.
pub(crate) fn emit(lanes: &mut [Lane], events: &[OutboxEvent]) {
    for event in events {
        if let Some(lane) = lanes.get_mut(usize::from(event.lane)) {
            let event = OutboxEvent { time: stored(event.time), ..event.clone() };
            lane.rows.push(OutboxRow { seq: last_seq(lane) + 1, event });
        }
    }
}

fn last_seq(lane: &Lane) -> i64 {
    lane.rows.last().map_or(0, |row| row.seq)
}

/// Leases lanes that no live worker publishes; returns all that this worker then has.
fn claim(state: &mut State, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>> {
    state.require_alive(worker)?;
    let workers = &state.workers;
    let is_free = |lane: &&mut Lane| lane.publisher.is_none_or(|publisher| !workers.contains_key(&publisher));
    for lane in state.lanes.iter_mut().filter(is_free).take(usize::from(limit)) {
        lane.publisher = Some(worker);
        lane.epoch += 1;
    }
    let held = (0..).zip(&state.lanes).filter(|(_, lane)| lane.publisher == Some(worker));
    Ok(held.map(|(number, lane)| LaneLease { lane: number, epoch: lane.epoch, published: lane.published }).collect())
}

/// Moves a lane's cursor to a row that is there, never back. Returns whether the worker still has the lease, and the row is
/// there.
fn move_on(lanes: &mut [Lane], worker: WorkerId, advance: &LaneAdvance) -> bool {
    let lane = lanes.get_mut(usize::from(advance.lane));
    let lane = lane.filter(|lane| lane.publisher == Some(worker) && lane.epoch == advance.epoch);
    let lane = lane.filter(|lane| lane.rows.binary_search_by_key(&advance.published, |row| row.seq).is_ok());
    lane.map(|lane| lane.published = lane.published.max(advance.published)).is_some()
}

/// The rows after a `seq`, up to the first with an event that no build emits: the databases read them so.
fn read(lanes: &[Lane], lane: u16, after: i64, limit: usize) -> OrderedRows<OutboxRow> {
    let rows = lanes.get(usize::from(lane)).map_or(&[][..], |lane| &lane.rows);
    let first = rows.partition_point(|row| row.seq <= after);
    let found = rows[first..].iter().take(limit);
    OrderedRows::until_unreadable(found.map(|row| (row.seq, row.event.check().map(|()| row.clone()))))
}
