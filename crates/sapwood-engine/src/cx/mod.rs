//! `cx`, through which a body performs its durable operations, and their handles. One file per operation.

mod call;
mod compensate;
mod emit;
mod promise;
mod result;
mod sleep;
mod start;
mod step;
mod transaction;
mod value;

use std::sync::Arc;

use jiff::Timestamp;
use sapwood_core::Dependencies;

pub use call::CallHandle;
pub use promise::PromiseHandle;
pub use sleep::SleepHandle;
pub use start::StartHandle;
pub(crate) use start::start;
pub use step::StepHandle;
pub use transaction::TransactionHandle;

use crate::activation::Cell;

/// The value through which a body performs its durable operations.
///
/// Operations take their position in program order when they are written, not when they are awaited, and return
/// handles that do not borrow `cx`. So plain `tokio::join!`, `select!` and `try_join_all` over handles take
/// the same branches on every replay (SEMANTICS R7).
///
/// Awaiting anything but these handles in the body is not durable; await it inside of a [`Cx::step`].
pub struct Cx<D: Dependencies> {
    cell: Arc<Cell>,
    dependencies: Arc<D>,
}

impl<D: Dependencies> Cx<D> {
    pub(crate) fn new(cell: Arc<Cell>, dependencies: Arc<D>) -> Self {
        Self { cell, dependencies }
    }

    /// The dependencies of the context: the value that the app was given for it.
    #[must_use]
    pub fn dependencies(&self) -> Arc<D> {
        Arc::clone(&self.dependencies)
    }

    /// When this function times out, whatever it does then; `None` if neither it nor a caller has a deadline. The same on
    /// every replay; what is left of it is the time from [`Cx::now`] until then.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.cell.deadline()
    }

    /// A key for the next operation that is the same over every retry and replay: give it to the outside, so that it
    /// can recognize a repetition (R3). ASCII, at most 250 characters. An undo that an operator has retried has the keys of
    /// the one that failed.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let place = self.cell.path().without_rounds().child(self.cell.next_position());
        format!("{}:{place}", self.cell.facts().tree)
    }
}
