//! Workers: joining, burying, leaving.

use std::time::Duration;

use async_trait::async_trait;
use sapwood_core::store::{Beat, Joined, Lease, Membership, StoreResult};
use sapwood_core::{ProcessId, WorkerId};

use crate::lease::MemoryLease;
use crate::state::{State, Worker};
use crate::store::MemoryStore;

#[async_trait]
impl Membership for MemoryStore {
    async fn worker_join(
        &self,
        _name: &str,
        fences: u16,
        lease: Duration,
        process: Option<ProcessId>,
    ) -> StoreResult<Joined> {
        self.handle().act(|state, now| Ok(Joined { worker: join(state, fences, lease, process), now }))
    }

    fn lease(&self, worker: WorkerId) -> Box<dyn Lease> {
        Box::new(MemoryLease::new(self.handle(), worker))
    }

    async fn worker_bury(&self, by: WorkerId, silent: &[Beat]) -> StoreResult<Vec<WorkerId>> {
        self.handle().act(|state, _| bury(state, by, silent))
    }

    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()> {
        self.handle().act(|state, _| {
            state.workers.remove(&worker);
            Ok(())
        })
    }
}

fn join(state: &mut State, fences: u16, lease: Duration, process: Option<ProcessId>) -> WorkerId {
    state.last_worker += 1;
    let worker = WorkerId(state.last_worker);
    state.workers.insert(worker, Worker { renewals: 0, lease, process, fences: vec![0; usize::from(fences)] });
    worker
}

/// Removes those of the silent ones that are alive and have not renewed since they were seen; returns them by id.
fn bury(state: &mut State, by: WorkerId, silent: &[Beat]) -> StoreResult<Vec<WorkerId>> {
    state.require_alive(by)?;
    let is_silent = |beat: &&Beat| {
        let renewals = state.workers.get(&beat.worker).map(|worker| worker.renewals);
        beat.worker != by && renewals == Some(beat.renewals)
    };
    let mut buried: Vec<WorkerId> = silent.iter().filter(is_silent).map(|beat| beat.worker).collect();
    buried.sort_unstable();
    buried.dedup();
    state.workers.retain(|worker, _| buried.binary_search(worker).is_err());
    Ok(buried)
}
