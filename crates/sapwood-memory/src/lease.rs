//! The renewal of a worker's lease.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sapwood_core::WorkerId;
use sapwood_core::store::{Beat, Lease, Renewal, StoreResult};

use crate::error::fenced;
use crate::handle::Handle;
use crate::state::State;

/// The [`Lease`] of one worker.
pub(crate) struct MemoryLease {
    handle: Arc<Handle>,
    worker: WorkerId,
}

impl MemoryLease {
    pub(crate) fn new(handle: &Arc<Handle>, worker: WorkerId) -> Self {
        Self { handle: Arc::clone(handle), worker }
    }
}

#[async_trait]
impl Lease for MemoryLease {
    async fn renew(&mut self, lease: Duration) -> StoreResult<Renewal> {
        self.handle.act(|state, now| {
            renew(state, self.worker, lease)?;
            Ok(Renewal { now, others: others(state, self.worker) })
        })
    }
}

fn renew(state: &mut State, worker: WorkerId, lease: Duration) -> StoreResult<()> {
    let renewed = state.workers.get_mut(&worker).ok_or_else(|| fenced(worker))?;
    renewed.renewals += 1;
    renewed.lease = lease;
    Ok(())
}

fn others(state: &State, worker: WorkerId) -> Vec<Beat> {
    let others = state.workers.iter().filter(|(id, _)| **id != worker);
    others
        .map(|(id, other)| Beat { worker: *id, renewals: other.renewals, lease: other.lease, process: other.process })
        .collect()
}
