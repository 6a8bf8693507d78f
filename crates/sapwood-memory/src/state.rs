//! All of a store's data, behind one lock.

use std::collections::BTreeMap;
use std::time::Duration;

use sapwood_core::store::{LoggedRecord, OutboxRow, StartKey, StoreResult};
use sapwood_core::{ProcessId, TreeId, WorkerId};

use crate::error::fenced;
use crate::forest::Forest;

/// Lanes of the outbox: as many as the migrations of the databases make, so that an event has the same lane everywhere.
pub(crate) const LANES: u16 = 16;

/// What the tables of a database are elsewhere. Every collection has an order of its own, and nothing is drawn from chance.
pub(crate) struct State {
    /// Those that are alive. Who is not here never will be again.
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    /// The last id given to a worker; none is given twice.
    pub(crate) last_worker: i64,
    pub(crate) forest: Forest,
    pub(crate) keys: BTreeMap<KeyPlace, KeyHolder>,
    /// By number.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) partitions: BTreeMap<PartitionPlace, Standing>,
    /// The records of each topic; the offset of one is its index.
    pub(crate) topics: BTreeMap<String, Vec<LoggedRecord>>,
}

/// A worker that is alive.
pub(crate) struct Worker {
    pub(crate) renewals: u64,
    pub(crate) lease: Duration,
    /// The process that has it.
    pub(crate) process: Option<ProcessId>,
    /// The incarnation of each fence: a commit names the one that it knows.
    pub(crate) fences: Vec<u64>,
}

/// Scope and key.
pub(crate) type KeyPlace = (String, String);

/// What has a key.
pub(crate) struct KeyHolder {
    pub(crate) tree: TreeId,
    pub(crate) digest: [u8; 32],
}

/// Where the key of a start is.
pub(crate) fn place_of(key: &StartKey) -> KeyPlace {
    (key.scope.stored(), key.key.clone())
}

/// A part of the outbox.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) publisher: Option<WorkerId>,
    /// Counts its leases, so that a stale publisher is refused.
    pub(crate) epoch: i64,
    pub(crate) published: i64,
    /// In the order of their commits. The `seq` of one is its index and one, because 0 is before the first.
    pub(crate) rows: Vec<OutboxRow>,
}

/// Group, topic, partition, and the broker's id of the topic, empty if it has none.
pub(crate) type PartitionPlace = (String, String, i32, String);

/// How far a group has read a partition.
#[derive(Default)]
pub(crate) struct Standing {
    /// Counts the assignments.
    pub(crate) epoch: i64,
    /// None until the first batch was taken in.
    pub(crate) next_offset: Option<i64>,
}

impl State {
    pub(crate) fn empty() -> Self {
        Self {
            workers: BTreeMap::new(),
            last_worker: 0,
            forest: Forest::default(),
            keys: BTreeMap::new(),
            lanes: (0..LANES).map(|_| Lane::default()).collect(),
            partitions: BTreeMap::new(),
            topics: BTreeMap::new(),
        }
    }

    pub(crate) fn is_alive(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// Refuses a worker that is not alive.
    pub(crate) fn require_alive(&self, worker: WorkerId) -> StoreResult<()> {
        if self.is_alive(worker) { Ok(()) } else { Err(fenced(worker)) }
    }
}
