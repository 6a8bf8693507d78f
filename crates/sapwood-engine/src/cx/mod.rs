//! The context of a function: the cursor over its journal, and the handles of its operations. One file an operation.

mod call;
mod emit;
mod sleep;
mod start;
mod step;
mod value;

use std::sync::Arc;

use sapwood_core::Dependencies;

pub use call::CallHandle;
pub use sleep::SleepHandle;
pub(crate) use sleep::sleep_input;
pub use start::StartHandle;
pub(crate) use start::{StartOutcome, start};
pub use step::StepHandle;

use crate::activation::Cell;
use crate::function::StartsRoots;

/// A function's context: every durable operation goes through it.
///
/// Operations take their position in program order when they are written, not when they are awaited, and return
/// handles that do not borrow the context. So plain `tokio::join!`, `select!` and `try_join_all` over handles take
/// the same branches on every replay (SEMANTICS R7).
///
/// Awaiting anything but these handles in the body is not durable; do it inside of a [`Cx::step`].
pub struct Cx<A: Dependencies> {
    cell: Arc<Cell>,
    app: Arc<A>,
}

impl<A: Dependencies> Cx<A> {
    pub(crate) fn new(cell: Arc<Cell>, app: Arc<A>) -> Self {
        Self { cell, app }
    }

    /// The dependencies of the context.
    #[must_use]
    pub fn app(&self) -> Arc<A> {
        Arc::clone(&self.app)
    }

    /// What a function has not; see [`StartsRoots`].
    #[doc(hidden)]
    pub fn start<F>(&mut self, _call: crate::Call<F>) -> StartHandle
    where
        Self: StartsRoots,
    {
        unreachable!("nobody implements the bound")
    }

    /// A key for the next operation that is the same over every retry and replay: give it to the outside so that it
    /// can tell a repetition (R3). ASCII, at most 250 characters.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}:{}", self.cell.facts().tree, self.cell.path().child(self.cell.cursor()))
    }
}
