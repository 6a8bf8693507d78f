//! The bounded queue between the thread that polls Kafka and the async side that reads.
//!
//! A channel is not enough: when a partition is revoked or begins again, those of its records that the reader has not
//! taken yet must be removed, while everything else keeps its place.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use sapwood_core::broker::{BrokerError, Consumed};
use tokio::sync::Notify;

use crate::error::fatal;

/// The most records in one batch: about as many as one commit of the intake has.
const BATCH_RECORDS: usize = 512;

/// The most records, and bytes of them, that wait. It is a few batches, so that the next one is ready when the last is
/// committed; the bytes bound the memory if records are large.
const WAITING_RECORDS: usize = 4 * BATCH_RECORDS;
const WAITING_BYTES: usize = 16 << 20;

/// A partition by name.
pub(crate) type Partition = (String, i32);

/// One assignment of a partition to this member; its generation distinguishes it from earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) partition: Partition,
    pub(crate) topic_id: Option<String>,
    /// Counted by the subscription; a later assignment has a higher one.
    pub(crate) generation: u64,
}

/// What waits to be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Assigned(Vec<Assignment>),
    Revoked(Vec<Partition>),
    Batch(Vec<Consumed>),
}

/// The queue. The poll thread pushes, and one reader takes.
#[derive(Clone, Default)]
pub(crate) struct Deliveries {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when something was pushed.
    filled: Notify,
    /// Notified when something was taken.
    room: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Waiting>,
    /// Records in the queue, and the next field their bytes: kept beside it, so that checking for room is cheap.
    records: usize,
    bytes: usize,
    /// Why the queue has ended; returned once everything that waits is taken.
    ended: Option<BrokerError>,
}

impl Deliveries {
    /// Adds something other than records. It is not bounded, because there is little of it and it must not wait.
    pub(crate) fn push(&self, waiting: Waiting) {
        self.shared.state.lock().queue.push_back(waiting);
        self.shared.filled.notify_one();
    }

    /// Adds records, filling up the last batch first.
    pub(crate) fn push_records(&self, records: Vec<Consumed>) {
        if records.is_empty() {
            return;
        }
        let mut state = self.shared.state.lock();
        state.records += records.len();
        state.bytes += records.iter().map(size).sum::<usize>();
        match state.queue.back_mut() {
            Some(Waiting::Batch(last)) if last.len() + records.len() <= BATCH_RECORDS => last.extend(records),
            _ => state.queue.push_back(Waiting::Batch(records)),
        }
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Removes the records of `partition` that the reader has not taken.
    pub(crate) fn forget(&self, partition: &Partition) {
        let mut state = self.shared.state.lock();
        let queue = mem::take(&mut state.queue);
        state.queue = queue.into_iter().filter_map(|waiting| without(waiting, partition)).collect();
        let (mut records, mut bytes) = (0, 0);
        for waiting in &state.queue {
            if let Waiting::Batch(batch) = waiting {
                records += batch.len();
                bytes += batch.iter().map(size).sum::<usize>();
            }
        }
        (state.records, state.bytes) = (records, bytes);
    }

    /// Ends the queue; the reader gets `error` after everything that still waits.
    pub(crate) fn end(&self, error: BrokerError) {
        self.shared.state.lock().ended.get_or_insert(error);
        self.shared.filled.notify_one();
    }

    /// Whether more records may be pushed.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.state.lock().has_room()
    }

    /// Whether enough was taken to fetch again. The distance to `has_room` keeps partitions from being paused and
    /// resumed with every batch, because each pause discards what was fetched ahead.
    pub(crate) fn is_half_empty(&self) -> bool {
        let state = self.shared.state.lock();
        state.records <= WAITING_RECORDS / 2 && state.bytes <= WAITING_BYTES / 2
    }

    /// Waits for room, no longer than `patience`; returns whether there is some.
    pub(crate) fn wait_for_room(&self, patience: Duration) -> bool {
        let mut state = self.shared.state.lock();
        self.shared.room.wait_while_for(&mut state, |state| !state.has_room(), patience);
        state.has_room()
    }

    /// Takes what has waited longest; waits if the queue is empty. Cancel safe: nothing is taken before it is returned.
    pub(crate) async fn take(&self) -> Result<Waiting, BrokerError> {
        loop {
            if let Some(taken) = self.try_take() {
                return taken;
            }
            self.shared.filled.notified().await;
        }
    }

    fn try_take(&self) -> Option<Result<Waiting, BrokerError>> {
        let mut state = self.shared.state.lock();
        let Some(waiting) = state.queue.pop_front() else {
            // Only the first caller gets the cause as well, because it cannot be copied.
            let error = state.ended.take()?;
            state.ended = Some(BrokerError::new(error.kind(), error.to_string()));
            return Some(Err(error));
        };
        if let Waiting::Batch(batch) = &waiting {
            state.records -= batch.len();
            state.bytes -= batch.iter().map(size).sum::<usize>();
            self.shared.room.notify_one();
        }
        Some(Ok(waiting))
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.records < WAITING_RECORDS && self.bytes < WAITING_BYTES
    }
}

/// Ends the queue when the poll thread ends, for whatever reason.
pub(crate) struct EndOnDrop(pub(crate) Deliveries);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(fatal("the thread that reads from Kafka has ended"));
    }
}

fn without(waiting: Waiting, partition: &Partition) -> Option<Waiting> {
    match waiting {
        Waiting::Batch(mut batch) => {
            batch.retain(|record| (record.topic.as_str(), record.partition) != (partition.0.as_str(), partition.1));
            (!batch.is_empty()).then_some(Waiting::Batch(batch))
        }
        other => Some(other),
    }
}

fn size(record: &Consumed) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.content.len() + record.key.as_ref().map_or(0, |key| key.len()) + headers
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(partition: i32, offset: i64) -> Consumed {
        let content = Bytes::from_static(b"content");
        Consumed { topic: "t".to_owned(), partition, offset, key: None, headers: vec![], content }
    }

    #[test]
    fn what_waits_of_a_revoked_partition_is_never_delivered() {
        let deliveries = Deliveries::default();
        deliveries.push_records(vec![record(0, 1), record(1, 1), record(0, 2)]);
        deliveries.push_records(vec![record(0, 3)]);
        deliveries.forget(&("t".to_owned(), 0));
        assert_eq!(deliveries.try_take().unwrap().unwrap(), Waiting::Batch(vec![record(1, 1)]));
        assert!(deliveries.try_take().is_none());
    }

    #[test]
    fn room_ends_and_comes_back() {
        let deliveries = Deliveries::default();
        for batch in 0..4 {
            assert!(deliveries.has_room());
            deliveries.push_records((0..512).map(|n| record(0, batch * 512 + n)).collect());
        }
        assert!(!deliveries.wait_for_room(Duration::ZERO));
        deliveries.try_take();
        assert!(deliveries.has_room() && !deliveries.is_half_empty());
        deliveries.try_take();
        assert!(deliveries.is_half_empty());
    }

    #[test]
    fn the_end_comes_after_what_waits() {
        let deliveries = Deliveries::default();
        deliveries.push_records(vec![record(0, 1)]);
        drop(EndOnDrop(deliveries.clone()));
        assert!(deliveries.try_take().unwrap().is_ok());
        assert!(deliveries.try_take().unwrap().is_err());
        assert!(deliveries.try_take().unwrap().is_err());
    }
}
