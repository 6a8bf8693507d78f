//! The fence that the commits and starts of a worker name: what keeps the late ones of a dead worker out.
//!
//! All that happens is under one lock, so a burial waits for no commit that is under way. What is left of a fence is what a
//! model needs: it is closed with its worker, and whoever takes it gives it a new incarnation, as a new connection
//! to PostgreSQL does. So what names an earlier one is refused, and a recovery knows that its answer stays true.

use sapwood_core::WorkerId;
use sapwood_core::store::StoreResult;

use crate::error::fenced;
use crate::state::State;

/// One of a worker's fences, as one committer or starter knows it.
pub(crate) struct Fenced {
    worker: WorkerId,
    fence: u16,
    /// None before it is taken.
    incarnation: Option<u64>,
}

impl Fenced {
    /// Takes nothing yet.
    pub(crate) const fn new(worker: WorkerId, fence: u16) -> Self {
        Self { worker, fence, incarnation: None }
    }

    pub(crate) const fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Refuses if the worker is not alive, or if another has taken the fence since. Takes it the first time.
    pub(crate) fn pass(&mut self, state: &mut State) -> StoreResult<()> {
        let Some(known) = self.incarnation else { return self.take(state) };
        if *self.incarnation_in(state)? == known { Ok(()) } else { Err(fenced(self.worker)) }
    }

    /// Gives the fence a new incarnation: what names an earlier one is refused from now on.
    pub(crate) fn take(&mut self, state: &mut State) -> StoreResult<()> {
        let incarnation = self.incarnation_in(state)?;
        *incarnation += 1;
        self.incarnation = Some(*incarnation);
        Ok(())
    }

    fn incarnation_in<'s>(&self, state: &'s mut State) -> StoreResult<&'s mut u64> {
        let worker = state.workers.get_mut(&self.worker);
        worker.and_then(|worker| worker.fences.get_mut(usize::from(self.fence))).ok_or_else(|| fenced(self.worker))
    }
}
